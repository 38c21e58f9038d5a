"""Calls of a subject's own code: whatever it raises, and however long it takes, becomes a SubjectError."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from parity.errors import SubjectError, UsageError

_STANDARD_LIBRARY = Path(os.__file__).parent.name
"""The folder of Python's own modules, such as python3.12."""
_HARNESS = (Path(__file__), Path(__file__).with_name("subject.py"))
"""The files through which every call of a subject goes, and which are never the place where it failed."""

_seconds: ContextVar[float | None] = ContextVar("seconds", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Give every guarded call these seconds; None: as long as it takes.

    The time is kept by a signal, SIGALRM, whose handler raises in the midst of the call. Hence it is not kept in a
    thread other than the main one, nor on Windows, which has no such signal; and code that is not Python's, such as a
    loop in C, ends only by itself, since handlers run between two instructions of Python. A subject in a process of
    its own is stopped in all of these cases: see `parity.subjects.process.Limits`.
    """
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


class _TimeoutError(BaseException):
    """The time is up. Not an Exception, since a subject that says `except Exception` would go on."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise _TimeoutError here after so many seconds, unless that is impossible or another alarm is set already.

    There is one such clock for the whole process. Who has set it, a test runner or the guarded call around this one,
    keeps it.
    """
    possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not possible or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    # Every 0.1 s from then on, since a subject with a bare `except` or a `finally` may swallow the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def guarded(doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of the subject's own code; SubjectError for whatever it raises, with the line that raised it."""
    seconds = _seconds.get()
    try:
        with _alarm(seconds):
            return function(*arguments, **options)
    except (UsageError, SubjectError, KeyboardInterrupt):
        raise
    except _TimeoutError as error:
        raise SubjectError(f"The subject did not answer within {seconds:g} s{_place(error)} in {doing}.") from None
    except BaseException as error:  # a subject may even call sys.exit
        message = " ".join(str(error).split())
        cause = type(error).__name__ + (f": {message}" if message else "")
        raise SubjectError(f"The subject raised {cause}{_place(error)} in {doing}.") from error


def _place(error: BaseException) -> str:
    """Where an error came from, as " (port.py, line 7)": the last line of the subject's own rather than of a library.

    Of a library, if nothing else is on its way; empty where not even that is.
    """
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [(file, line) for file, line in frames if file not in _HARNESS]
    own = [
        (file, line) for file, line in frames if not {"site-packages", _STANDARD_LIBRARY} & set(file.parts)
    ] or frames
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""


def wait() -> None:
    """Wait until CUDA has done what it was given, so that the clock around a call counts it.

    torch is not imported for it: who has not imported it has given CUDA nothing to do.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
