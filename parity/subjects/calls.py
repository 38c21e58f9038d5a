"""Calls of a subject's own code: whatever it raises, and however long it takes, becomes a SubjectError."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from parity.errors import SubjectError, UsageError

_STANDARD_LIBRARY = Path(os.__file__).parent.name
"""The folder of Python's own modules, such as python3.12."""
_HARNESS = tuple(Path(__file__).with_name(name) for name in ("calls.py", "imports.py", "subject.py"))
"""The files through which every call of a subject goes, and which are never the place where it failed."""
_TRAINING = Path(__file__).parents[1] / "training"
"""The folder through whose files every step of a training goes."""

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


class _LeftError(SystemExit):
    """The subject wanted to end the process. As a SystemExit it also ends a thread of the subject's without a word."""


class _Clock:
    """Raises _TimeoutError in the midst of what runs, after so many seconds, unless that is impossible.

    There is one such clock for the whole process. Who has set it, a test runner or the guarded call around this one,
    keeps it.
    """

    def __init__(self, seconds: float | None) -> None:
        possible = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        self.ticking = seconds is not None and possible and not signal.getitimer(signal.ITIMER_REAL)[0]
        self.seconds, self.before = seconds, signal.getsignal(signal.SIGALRM) if self.ticking else None

    def start(self) -> None:
        """To be called where `stop` will follow, come what may."""
        if self.ticking and self.seconds is not None:
            signal.signal(signal.SIGALRM, self._ring)
            # Every 0.1 s from then on, since a subject with a bare `except` or a `finally` may swallow the first one.
            signal.setitimer(signal.ITIMER_REAL, self.seconds, 0.1)

    def stop(self) -> None:
        """No alarm from here on; a second call, where the first one was interrupted by an alarm, does the rest."""
        if self.before is not None:
            self.ticking = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
            self.before = None

    def _ring(self, number: int, frame: Any) -> None:
        if self.ticking:
            raise _TimeoutError


@dataclass(eq=False)
class _Call:
    """A guarded call under way."""

    process: int
    thread: int
    left: int | None = None
    """The status with which the subject wanted to end the process."""


_calls: list[_Call] = []
"""Those under way, the innermost last."""
_no_call = _Call(os.getpid(), threading.main_thread().ident or 0)
"""In place of one where none is: somebody may have kept what os._exit was in the midst of a call, as atexit does."""
_leave_at_once = os._exit


def _leave(status: int) -> NoReturn:
    """What os._exit is where a subject's own code may run: the process, and the verdict with it, is not the subject's.

    Otherwise a subject that leaves with status 0 would look like one that has passed. What it forks may leave, and so
    may another thread with another status: it may be the watchdog of a test runner.
    """
    call = _calls[-1] if _calls else _no_call
    if os.getpid() != call.process or (status and threading.get_ident() != call.thread):
        _leave_at_once(status)
    call.left = status
    raise _LeftError(status)


@contextmanager
def _staying(call: _Call) -> Iterator[None]:
    """Have os._exit raise."""
    _calls.append(call)
    os._exit = _leave
    try:
        yield
    finally:
        _calls.remove(call)
        if not _calls:
            os._exit = _leave_at_once


@contextmanager
def kept_alive(*, to_the_end: bool) -> Iterator[None]:
    """Have os._exit raise between calls as well, where a thread that the subject left behind, or a signal, may run.

    to_the_end: and until Python has left, by which time functions given to atexit have run. SubjectError where the
    main thread wanted to leave.
    """
    call = _Call(os.getpid(), threading.get_ident())
    try:
        with _staying(call):
            yield
    except _LeftError as error:
        raise SubjectError(f"The subject called os._exit({call.left}){_place(error)} between two calls.") from None
    finally:
        if to_the_end:
            os._exit = _leave


def guarded(doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of the subject's own code; SubjectError for whatever it raises, with the line that raised it."""
    clock = _Clock(_seconds.get())
    call = _Call(os.getpid(), threading.get_ident())
    try:
        with _staying(call):
            try:
                clock.start()
                result = function(*arguments, **options)
            finally:
                clock.stop()
    except (UsageError, SubjectError, KeyboardInterrupt):
        raise
    except _TimeoutError as error:
        raise SubjectError(
            f"The subject did not answer within {clock.seconds:g} s{_place(error)} in {doing}."
        ) from None
    except _LeftError as error:
        raise SubjectError(f"The subject called os._exit({call.left}){_place(error)} in {doing}.") from None
    except BaseException as error:  # a subject may even call sys.exit
        raise SubjectError(f"The subject raised {_described(error)}{_place(error)} in {doing}.") from error
    finally:
        clock.stop()
    if call.left is not None:  # in a thread, or the subject catches everything
        raise SubjectError(f"The subject called os._exit({call.left}) in {doing}.")
    return result


def _described(error: BaseException) -> str:
    """What was raised, in one line."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # of the subject's own class, whose __str__ may fail as well
        message = ""
    return type(error).__name__ + (f": {message}" if message else "")


def _place(error: BaseException) -> str:
    """Where an error came from, as " (port.py, line 7)": the last line of the subject's own rather than of a library.

    Of a library, if nothing else is on its way; empty where not even that is.
    """
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [(file, line) for file, line in frames if file not in _HARNESS and file.parent != _TRAINING]
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
