"""Ranks: processes that train together over torch.distributed, led by a process that takes no part itself."""

import gc
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from traceback import format_exception_only
from typing import Any

SECONDS = 120.0
"""For each answer, and for a rank to wait for the others: enough to import torch on a busy machine."""


class Ranks:
    """Processes, one for each rank, with a member each: an object that does what the leader asks of all ranks at once.

    Every method raises RuntimeError where a rank raises, ends, or does not answer within `seconds`; none is left then.
    They meet by a file of their own, so any number of them can run side by side, and end with the process that led.
    As with all of multiprocessing, a script that leads needs its `if __name__ == "__main__":`.
    """

    def __init__(self, count: int, seconds: float = SECONDS) -> None:
        self.count, self.seconds = count, seconds
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        folder = tempfile.mkdtemp(prefix="ranks-")
        self.end = weakref.finalize(self, _end, self.connections, self.processes, folder)
        context = multiprocessing.get_context("spawn")  # what torch has set up does not survive a fork
        for rank in range(count):
            ours, theirs = context.Pipe()
            arguments = (rank, count, str(Path(folder) / "store"), theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True, name=f"rank {rank}")
            self.connections.append(ours)
            process.start()
            self.processes.append(process)
            theirs.close()  # so that the pipe ends with the rank

    def make(self, member: Callable[..., Any], *arguments: Any) -> None:
        """Give every rank the member that `member(*arguments)` makes there, in place of the one it had."""
        self.ask("make", *[(member, *arguments)] * self.count)

    def ask(self, method: str, *each: Sequence[Any]) -> list[Any]:
        """What a method of every rank's member answers; each: the arguments of one rank, in their order."""
        if not self.end.alive:
            raise RuntimeError("The ranks have ended; a new subject starts new ones.")
        try:
            for connection, arguments in zip(self.connections, each, strict=True):
                with suppress(OSError):  # one that has ended says so below
                    connection.send((method, arguments))
            return self._answers(method)
        except BaseException:  # the others may wait for one that has failed, or answer a question of before
            self.end()
            raise

    def _answers(self, method: str) -> list[Any]:
        answers: dict[int, Any] = {}
        deadline = time.monotonic() + self.seconds
        while len(answers) < self.count:
            waiting = {c: rank for rank, c in enumerate(self.connections) if rank not in answers}
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                late = " and ".join(f"rank {rank}" for rank in waiting.values())
                raise RuntimeError(f"No answer from {late} within {self.seconds:g} s in {method}.")
            for connection in ready:
                rank = waiting[connection]
                try:
                    error, answers[rank] = connection.recv()
                except (EOFError, OSError):
                    error = "ended"
                if error:
                    raise RuntimeError(self._failure(rank, error, method))
        return [answers[rank] for rank in range(self.count)]

    def _failure(self, rank: int, error: str, method: str) -> str:
        """What went wrong: a rank that has ended, rather than what that did to another one."""
        gone = wait([process.sentinel for process in self.processes], 1.0)
        for number, process in enumerate(self.processes):
            if process.sentinel in gone:
                process.join()
                return f"Rank {number} ended with exit status {process.exitcode} in {method}."
        return f"Rank {rank} {error} in {method}."


def _end(connections: list[Connection], processes: list[Any], folder: str) -> None:
    for connection in connections:
        connection.close()
    for process in processes:
        process.kill()
        process.join()
    shutil.rmtree(folder, ignore_errors=True)


_idle: list[Ranks] = []
"""Ranks whose subject is gone. To start new ones takes seconds, and a property test makes a subject an example."""


def ranks_for(subject: Any, count: int) -> Ranks:
    """So many ranks, for as long as the subject lives; their members are another subject's until `make`."""
    if not _idle:
        gc.collect()  # a subject that is only part of a cycle has done with its ranks
    found = next((ranks for ranks in _idle if ranks.count == count and ranks.end.alive), None)
    if found:
        _idle.remove(found)
    ranks = found or Ranks(count)
    ranks.seconds = SECONDS
    weakref.finalize(subject, _give_back, ranks).atexit = False
    return ranks


def _give_back(ranks: Ranks) -> None:
    _idle.append(ranks)
    while len(_idle) > 2:
        _idle.pop(0).end()


def _serve(rank: int, count: int, store: str, connection: Connection) -> None:
    """Answer as one rank until the leader ends."""
    threading.Thread(target=_end_with_leader, args=(store,), daemon=True).start()
    os.dup2(2, 1)  # gloo talks on stdout, which may be the leader's channel to somebody else
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=timedelta(seconds=SECONDS)
    )
    member: Any = None
    while True:
        error, answer = "", None
        try:
            method, arguments = connection.recv()
            if method == "make":
                member = arguments[0](*arguments[1:])
            else:
                answer = getattr(member, method)(*arguments)
        except (EOFError, ConnectionError):
            return
        except Exception as exception:
            error = "raised " + " ".join("".join(format_exception_only(exception)).split())
        connection.send((error, answer))


def _end_with_leader(store: str) -> None:
    """Even if it was killed, and while this rank waits for another one."""
    wait([multiprocessing.parent_process().sentinel])
    shutil.rmtree(Path(store).parent, ignore_errors=True)
    os._exit(1)
