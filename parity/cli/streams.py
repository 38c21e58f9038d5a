"""Standard output and error, which may be closed, full, left by their reader, or unable to show a character."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from parity.errors import UsageError

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


class OutputError(Exception):
    """Standard output takes no more; status: what the process ends with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def complain(text: str) -> None:
    """Say something on standard error, if it takes it."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text.encode("utf-8", "backslashreplace").decode("utf-8"), file=sys.stderr)


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
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has left
        _give_up_output()
        raise OutputError("", 128 + signal.SIGPIPE) from None
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _give_up_output()
        raise OutputError(f"Standard output cannot be written: {error.strerror}.", 2) from None
    except ValueError:
        if not sys.stdout.closed:
            raise
        raise OutputError("Standard output was closed before the result could be printed.", 2) from None


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
