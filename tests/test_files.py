"""Files are written whole, and that they cannot be is found out without a trace."""

import os
from pathlib import Path

import pytest

from parity.errors import UsageError
from parity.files import require_writable, write_whole


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("folder/new")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("path", ["file", "new", "folder/new", "new/deep/file", "link", os.devnull])
def test_place_that_can_be_written_to_is_left_as_it_is_and_then_written(folder, path):
    before = names(folder)
    require_writable(Path(path))
    assert names(folder) == before
    assert Path("file").read_text(encoding="utf-8") == "mine"
    write_whole(Path(path), "text")
    assert Path(path).read_text(encoding="utf-8") == ("" if path == os.devnull else "text")
    assert Path("link").is_symlink()


@pytest.mark.parametrize(
    "path", ["folder", "file/new", "file/deep/new", "x" * 300, "x" * 254, "loop", "", "/proc/nowhere"]
)
def test_place_that_cannot_be_written_to_is_named_as_it_was_given(folder, path):
    before = names(folder)
    with pytest.raises(UsageError, match=r" cannot be written: .*\.$") as error:
        require_writable(Path(path))
    assert str(error.value).startswith(str(Path(path)))
    assert names(folder) == before


def test_pipe_is_not_waited_for(folder):
    os.mkfifo("pipe")
    require_writable(Path("pipe"))
