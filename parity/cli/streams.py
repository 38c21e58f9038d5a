"""Standard output and error, which may be closed, full, left by their reader, or unable to show a character."""

import io
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from parity.errors import UsageError


class OutputError(Exception):
    """Standard output takes no more; status: what the process ends with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def complain(text: str) -> None:
    """Say something on standard error, if it takes it."""
    if sys.stderr is not None:
        with suppress(OSError):
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)


def _wrapped(text: str) -> str:
    """Lines as wide as the terminal, broken between words."""
    width = shutil.get_terminal_size().columns
    kept = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(
        textwrap.fill(line, width, **kept) if len(line) > width else line  # type: ignore[arg-type]
        for line in text.split("\n")
    )


@contextmanager
def standard_output() -> Iterator[None]:
    """Have all that is printed within arrive by the end.

    UsageError, at once, where standard output is closed; OutputError where it takes no more.
    """
    _fill_gaps()
    if sys.stdout is None:
        raise UsageError("Standard output is closed; where only the exit status matters, send it to /dev/null.")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a subject's message may hold anything
    try:
        with _noted(sys.stdout) as of_output, _noted(sys.stderr) as of_errors:
            try:
                yield
            finally:
                sys.stdout.flush()
    except OSError as error:
        if error in of_errors:  # where nobody can be told
            raise OutputError("", 2) from None
        if error not in of_output:
            raise
        _give_up_output()
        if isinstance(error, BrokenPipeError):  # whoever read the output has left
            raise OutputError("", 128 + signal.SIGPIPE) from None
        raise OutputError(f"Standard output cannot be written: {error.strerror}.", 2) from None
    except ValueError:
        if not sys.stdout.closed:
            raise
        raise OutputError("Standard output was closed before the result could be printed.", 2) from None


@contextmanager
def _noted(stream: Any) -> Iterator[list[OSError]]:
    """The errors of what is written to a stream, since an OSError does not say whose it is."""
    failures: list[OSError] = []

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            except OSError as error:
                failures.append(error)
                raise

        return call

    if not hasattr(stream, "__dict__"):  # None, or one with methods that stay as they are
        yield failures
        return
    stream.write, stream.flush = noting(stream.write), noting(stream.flush)
    try:
        yield failures
    finally:
        for name in ("write", "flush"):
            vars(stream).pop(name, None)


def _fill_gaps() -> None:
    """Give closed ones of the descriptors 0 to 2 to nobody: the next file that is opened would become one of them."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)


def _give_up_output() -> None:
    """Have nothing fail as Python leaves and writes what it still holds."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
