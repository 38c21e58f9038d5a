"""How much memory a subject takes: that of the process and its children, or of a GPU."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

_INTERVAL = 0.02
"""Seconds between two looks."""


def used() -> int:
    """Bytes that this process and its children hold."""
    total, process = 0, psutil.Process()
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += member.memory_info().rss
    return total


def used_on_device() -> int:
    """Bytes of an accelerator's memory that were in use at most; 0 where there is none."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """A function that tells the most bytes that were used within the block, by looking again and again."""
    most = used()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(_INTERVAL):
            most = max(most, used())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: most
    finally:
        most = max(most, used())
        done.set()
        watcher.join()
