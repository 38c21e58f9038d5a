"""A repository with a subject in it."""

import copy
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from parity import Case
from tests.gate.hub import Hub, checked_out
from tests.gate.refactors import MODEL, PORT, git


@pytest.fixture(scope="session")
def git_is_there() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")


@pytest.fixture
def own_environment(git_is_there, monkeypatch):
    """Without what a workflow or a hook, which these tests may run in, has set."""
    for name in [name for name in os.environ if name.startswith("GIT")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def named_elsewhere(request):
    """Looking for a known mistake takes seconds; only what is marked so does it."""
    if "naming" not in request.fixturenames:
        request.getfixturevalue("unnamed")


@pytest.fixture
def naming():
    """Look for known mistakes."""


@pytest.fixture
def repository(own_environment, tmp_path, monkeypatch):
    """A repository with a commit of a subject, port.py, whose work is done in model.py; the current folder."""
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
    return Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4})


@pytest.fixture(scope="session")
def first_hub(git_is_there, tmp_path_factory) -> Hub:
    return Hub(tmp_path_factory.mktemp("first") / "hub")


@pytest.fixture
def hub(own_environment, first_hub, tmp_path) -> Hub:
    hub = copy.copy(first_hub)
    hub.folder = shutil.copytree(first_hub.folder, tmp_path / "hub")
    return hub


@pytest.fixture(params=[1, 1000], ids=["shallow", "whole"])
def checkout(request, hub, tmp_path):
    """Check out a commit, with the default fetch-depth and with another one."""
    return partial(checked_out, hub, folder=tmp_path / "clone", depth=request.param)
