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

LIBRARY = Path(os.__file__).parent.name
HARNESS = (Path(__file__), Path(__file__).with_name("subject.py"))

_seconds: ContextVar[float | None] = ContextVar("seconds", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Give every guarded call these seconds.

    By a signal, so only in the main thread, where signals of that kind exist; and what hangs outside of Python hangs
    on. A process of its own has no such exceptions.
    """
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


class _TimeoutError(BaseException):
    """Not an Exception, which a subject may well catch."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds is None or not possible or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again and again: a subject may catch even this
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
    """The last line of the subject's own that an error came through, rather than of a library that it called."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [(file, line) for file, line in frames if file not in HARNESS]
    own = [(file, line) for file, line in frames if not {"site-packages", LIBRARY} & set(file.parts)] or frames
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""


def wait() -> None:
    """Until an accelerator has done what it was given: that belongs to the call."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
