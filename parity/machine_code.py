"""Functions compiled to machine code by Numba."""

from contextlib import AbstractContextManager
from typing import Any

import numba
from numba.core import event


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


def compile_timer(seconds: list[float]) -> AbstractContextManager[None]:
    """While it is entered, append how long each compilation took; what is found on disk is not compiled."""
    timer: AbstractContextManager[None] = event.install_timer("numba:compile", seconds.append)
    return timer
