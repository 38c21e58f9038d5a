"""A repository with a subject in it."""

import os
from pathlib import Path

import pytest

from parity import Case
from tests.gate.refactors import MODEL, PORT, git


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a commit of a subject, port.py, whose work is done in model.py; the current folder."""
    for name in [name for name in os.environ if name.startswith("GIT")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    Path("model.py").write_text(MODEL, encoding="utf-8")
    Path("port.py").write_text(PORT, encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "-m", "Start")
    return folder


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(steps=2, config={"n_embd": 8, "n_head": 2, "block_size": 8})
