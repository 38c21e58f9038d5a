"""The ranks' processes: started with torchrun's environment, asked all at once, and always ended together."""

import itertools
import os
import re
import shutil
import signal
import socket
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from parity.errors import SubjectError, UsageError
from parity.options import MOST_SECONDS
from parity.quantities import TensorKey
from parity.ranks.stacks import places
from parity.subjects.command import Command, serving
from parity.subjects.process import Limits
from parity.training.exchange import Parts, read_tensors, write_tensors

_ENDED = re.compile(r"left with exit status|was killed by|closed its output")
_LOST = re.compile(r"onnection (closed|reset|refused)|roken pipe|ocket", re.DOTALL)
"""What a rank says where another one has gone."""


class Ranks:
    """So many processes of this machine, one for each rank.

    Whatever they are asked raises SubjectError where one fails, ends or does not answer in time, and UsageError where
    it says that it was asked for what cannot be; both name the rank, and none is left then. limits: of every rank.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self.count, self.seconds = count, limits.seconds
        self.folder = Path(tempfile.mkdtemp(prefix="parity-ranks-"))
        self._numbers = itertools.count()
        # The limit of time is kept for all of them together, below.
        own = Limits(min(limits.seconds + 10, MOST_SECONDS), limits.memory)
        port = _free_port()  # of those who make a store of their own; the ranks meet by a file
        self.commands = [self._command(rank, own, port) for rank in range(count)]
        self._pool = ThreadPoolExecutor(count)
        self.end = weakref.finalize(self, _end, self.commands, self._pool, self.folder)

    def _command(self, rank: int, limits: Limits, port: int) -> Command:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.count, "LOCAL_WORLD_SIZE": self.count}
        given = {name: str(x) for name, x in {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items()}
        environment = {"OMP_NUM_THREADS": "1", **os.environ, **given}
        return serving("ranks", limits, None, [str(self.folder)], environment, "parity.ranks.worker")

    @property
    def alive(self) -> bool:
        """Whether they can still be asked."""
        return self.end.alive

    def ask(self, message: dict[str, Any], answer: str, doing: str, each: Sequence[dict[str, Any]] = ()) -> list[Any]:
        """What every rank answers to a message. each: what the message says besides to one rank, in their order."""
        more = each or [{}] * self.count
        try:
            asked = [
                self._pool.submit(command.ask, {**message, **own}, answer, doing)
                for command, own in zip(self.commands, more, strict=True)
            ]
            done, waiting = wait(asked, self.seconds, FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                wait(asked, 1.0)  # who has ended pulls the others down with it, and they may be the first to say so
                raise self._failure(asked)
            if waiting:
                raise self._late([rank for rank, future in enumerate(asked) if future in waiting], doing)
            return [future.result() for future in asked]
        except BaseException:
            self.close()
            raise

    def tensors(self, message: dict[str, Any], answer: str, doing: str, parts: Any, each: Any = ()) -> list[Any]:
        """What every rank writes to a file of its own, by part. parts(rank's answer): the parts that are in it."""
        files = [self.file() for _ in range(self.count)]
        more = each or [{}] * self.count
        named = [{**own, "file": str(file)} for own, file in zip(more, files, strict=True)]
        found = self.ask(message, answer, doing, named)
        return [read_tensors(file, parts(own)) for file, own in zip(files, found, strict=True)]

    def file(self) -> Path:
        """A file that is not there yet, in the folder that all of them read."""
        return self.folder / f"{next(self._numbers)}.npz"

    def written(self, parts: Parts) -> str:
        """The name of a file with these tensors, for one rank to read and delete."""
        file = self.file()
        write_tensors(file, parts)
        return str(file)

    def close(self) -> None:
        """End the processes."""
        self.end()

    def _failure(self, asked: list[Future[Any]]) -> BaseException:
        """What went wrong: of a rank that has ended, rather than what that did to another one."""
        errors = {rank: error for rank, f in enumerate(asked) if f.done() and (error := f.exception())}
        own = [rank for rank, error in errors.items() if not _LOST.search(str(error))]
        ended = [rank for rank, error in errors.items() if _ENDED.search(str(error))]
        rank = (ended or own or list(errors))[0]
        error = errors[rank]
        if not isinstance(error, (SubjectError, UsageError)):
            return error
        text = str(error)
        named = (
            text.replace("The subject", f"Rank {rank}", 1) if text.startswith("The subject") else f"Rank {rank}: {text}"
        )
        if "default process group twice" in text:
            named += (
                " The ranks' process group is there already: make one only if not torch.distributed.is_initialized()."
            )
        found = type(error)(named)
        if isinstance(found, SubjectError) and isinstance(error, SubjectError):
            found.last_words = error.last_words
        return found

    def _late(self, late: list[int], doing: str) -> SubjectError:
        """Of the ranks that have not answered in time, which one hangs, and what the others wait for."""
        running = {rank: self.commands[rank].process for rank in late}
        found = places(self.folder, {rank: process.popen.pid for rank, process in running.items() if process})
        hanging = [rank for rank, place in found.items() if not place.waits]
        words = [f"rank {rank} is {place}" for rank, place in sorted(found.items(), key=lambda x: x[0] not in hanging)]
        who = " and ".join(f"rank {rank}" for rank in hanging or late)
        answered = [f"rank {rank}" for rank in range(self.count) if rank not in late]
        hint = f"; {' and '.join(answered)} had answered" if answered else ""
        error = SubjectError(
            f"{who.capitalize()} did not answer within {self.seconds:g} s in {doing}: {'; '.join(words)}{hint}."
        )
        said = {rank: [*process.last_words] for rank, process in running.items() if process}
        lines = [f"rank {rank}: {line.decode(errors='replace').rstrip()}" for rank, own in said.items() for line in own]
        error.last_words = tuple(lines)
        return error


def gathered_tensors(ranks: Ranks, keys: Sequence[Sequence[TensorKey]]) -> list[dict[TensorKey, Tensor]]:
    """Of what every rank showed last, the tensors chosen for it."""
    each = [{"keys": [[key.quantity, key.name] for key in own]} for own in keys]
    found = ranks.tensors({"type": "tensors"}, "tensors", "giving its tensors", lambda _: ("seen",), each)
    return [own["seen"] for own in found]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _end(commands: list[Command], pool: ThreadPoolExecutor, folder: Path) -> None:
    for command in commands:  # all at once: one may wait for another one, and does not see its input end
        if command.process is not None:
            with suppress(OSError):
                os.killpg(command.process.popen.pid, signal.SIGKILL)
    for command in commands:
        command.close()
    pool.shutdown(wait=False, cancel_futures=True)
    shutil.rmtree(folder, ignore_errors=True)
