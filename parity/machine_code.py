"""Functions compiled to machine code by Numba."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numba
from numba.core import event
from typing_extensions import override

from parity.progress import work

_FUNCTIONS = 18
"""That a check of default size compiles, those aside that they call."""


def compiled(function: Any, **options: Any) -> Any:
    """Machine code on the first call, kept on disk for the next process where there is a place for it."""
    options = {"error_model": "numpy", "nogil": True, **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to
        return numba.njit(**options)(function)


def inlined(function: Any) -> Any:
    """As `compiled`, and part of whatever calls it: of the noisy interpreters, a call would take a good half.

    What is kept on disk of a caller in another file does not notice that this one has changed: delete __pycache__ then.
    """
    return compiled(function, forceinline=True)


@contextmanager
def compile_timer(seconds: list[float]) -> Iterator[None]:
    """Meanwhile, append how long each compilation took, and tell it as work; what is found on disk is not compiled."""
    with ExitStack() as stack, event.install_listener("numba:compile", _Compilations(seconds, stack)):
        yield


class _Compilations(event.Listener):
    """Of functions, and of those that they call within."""

    def __init__(self, seconds: list[float], stack: ExitStack) -> None:
        self._seconds, self._stack, self._depth, self._began = seconds, stack, 0, 0.0
        self._is_done: Callable[[], None] = lambda: None

    @override
    def on_start(self, event: Any) -> None:
        if not self._depth:
            self._began = time.perf_counter()
            if not self._seconds:
                self._is_done = self._stack.enter_context(work("compiling, this once", _FUNCTIONS))
        self._depth += 1

    @override
    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self._seconds.append(time.perf_counter() - self._began)
            self._is_done()
