"""What a gate's subject has loaded lies in its own revision's folder, which is looked up once for each module."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from parity.errors import UsageError
from parity.subjects.server import Server


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, folder = tmp_path / "project", tmp_path / "base"
    root.mkdir()
    folder.mkdir()
    server = Server("port.py:make", (root, folder))
    server.require_files_of_its_own()
    return server


def module_at(path: Path) -> ModuleType:
    module = ModuleType("lazily_imported")
    module.__file__ = str(path)
    return module


def test_modules_are_not_looked_up_after_every_step(server, monkeypatch):
    looked_up = []
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: looked_up.append(path) or path)
    server.require_files_of_its_own()
    assert looked_up == []
    monkeypatch.setitem(sys.modules, "lazily_imported", module_at(server.own_files.folder / "late.py"))
    server.require_files_of_its_own()
    assert looked_up == [server.own_files.folder / "late.py"]


def test_module_that_a_later_step_loads_from_the_working_tree_is_refused(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "lazily_imported", module_at(server.own_files.folder / "late.py"))
    server.require_files_of_its_own()
    monkeypatch.setitem(sys.modules, "lazily_imported", module_at(server.own_files.root / "late.py"))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"loads late\.py from the working tree"):
            server.require_files_of_its_own()
