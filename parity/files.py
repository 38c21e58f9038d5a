"""Written files: wholly or not at all."""

import errno
import os
import tempfile
from pathlib import Path

from parity.errors import UsageError


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is never seen half-written; UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return
        path = path.resolve()  # a link stays one
        part = _part(path)
        try:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def require_writable(path: Path) -> None:
    """UsageError for a file that `write_whole` could not write, found before hours of work are spent on its contents.

    Nothing is left behind, and a file that is there stays as it is.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} cannot be written: it is a folder.")
        if path.exists() and not path.is_file():
            if not os.access(path, os.W_OK):  # opening a pipe would wait for its reader
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        whole = path.resolve()
        folder = whole.parent
        while not folder.exists():
            folder = folder.parent
        (folder / _part(whole).name).unlink(missing_ok=True)  # a name that is too long is refused here
        with tempfile.TemporaryFile(dir=folder):  # permissions do not say whether a file system can be written to
            pass
    except (OSError, RuntimeError) as error:  # a RuntimeError is a loop of links
        reason = error.strerror if isinstance(error, OSError) else "its links go round in a circle"
        raise UsageError(f"{path} cannot be written: {reason}.") from None


def make_store(folder: Path) -> None:
    """Make a folder, where it is missing, for what is of use to nobody else, and that git does not look at."""
    if not folder.exists():
        write_whole(folder / ".gitignore", "# Written by microgpt-parity.\n*\n")


def require_folder(path: Path) -> None:
    """UsageError for a file whose folder does not exist, which is a name that was mistyped as often as not."""
    if not path.parent.exists():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}.")


def _part(path: Path) -> Path:
    """The file that is written before it takes the other's place."""
    return path.with_name(f".{path.name}.{os.getpid()}")
