"""Written files: wholly or not at all."""

import os
from pathlib import Path

from parity.errors import UsageError


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is never seen half-written; UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()  # a link stays one
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
