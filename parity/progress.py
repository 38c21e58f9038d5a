"""Work that takes a while, told step by step to whoever shows it: on a terminal a bar, elsewhere nobody.

What works says how much there is of it and when a part is done, and needs to be handed nothing; see `watched`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watcher(Protocol):
    """Shows what is being done."""

    def begin(self, what: str, parts: int) -> int:
        """Something begins that has so many parts; a number to tell it by."""

    def part_is_done(self, number: int) -> None:
        """One part more is done."""

    def end(self, number: int) -> None:
        """It is done, or given up."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher | None) -> Iterator[None]:
    """Tell a watcher, or nobody, of all work that is done meanwhile."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def work(what: str, parts: int) -> Iterator[Callable[[], None]]:
    """Work of so many parts; gives what is to be called after each of them."""
    watcher = _watcher.get()
    if watcher is None:
        yield lambda: None
        return
    number = watcher.begin(what, parts)
    try:
        yield partial(watcher.part_is_done, number)
    finally:
        watcher.end(number)


def each(what: str, parts: Sequence[T]) -> Iterator[T]:
    """The parts one by one, as work."""
    with work(what, len(parts)) as part_is_done:
        for part in parts:
            yield part
            part_is_done()
