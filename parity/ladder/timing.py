"""How long a subject's steps take and how much memory, beside the reference in the same process and minutes."""

import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from reference import microgpt
from reference.config import Config, Hyper, State

SECONDS = 0.02
"""A round repeats what is shorter, so that the clock's own time counts for nothing."""
ROUNDS = 3
"""A document's steps by the reference, whose times vary by a fifth."""
LONGEST = 2.0
"""Seconds that a batch may take; larger ones are not tried."""

MEMORY_SIZE = 256
"""Memory is that of batches up to this size, lest fast rungs seem wasteful for being tried with larger ones."""

Documents = Sequence[Sequence[int]]


@dataclass
class Timing:
    """Seconds a step of one document (median and quartiles of rounds), and a document in batches, by batch size.

    reference: seconds a step of the reference on the same documents, timed in turns; reference_batch: seconds a
    document of the reference with these documents as one batch. memory: bytes that the process and its children grew
    by at most, until batches of 256 documents were done.
    """

    step: float = 0.0
    low: float = 0.0
    high: float = 0.0
    reference: float = 0.0
    reference_batch: float = 0.0
    threads: int = 1
    batches: dict[int, float] = field(default_factory=dict)
    batch_threads: int = 1
    memory: int = 0

    @property
    def best(self) -> int:
        """The batch size at which a document takes least time."""
        return min(self.batches, key=self.batches.__getitem__)

    @property
    def speed_up(self) -> float:
        """How many times as fast as the reference a step of one document is."""
        return self.reference / self.step

    @property
    def batch_speed_up(self) -> float:
        """How many times as fast as the reference a document is in the best batch."""
        return self.reference_batch / self.batches[self.best]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Stopwatch:
    """A subject whose steps are timed: `prepare` outside of the clock and `update`, or train_step where it has none."""

    def __init__(self, subject: Any, state: State) -> None:
        self.subject, self.state = subject, state
        self.prepare: Callable[[Any], Any] = getattr(subject, "prepare", list)
        self.update: Callable[[Any], Any] = getattr(subject, "update", subject.train_step)

    def load(self) -> None:
        """Start again from the same state."""
        # Where training has gone on and on, gradients vanish, and arithmetic on subnormal numbers is slow.
        self.subject.load(State(self.state.params, self.state.m, self.state.v, self.state.step))
        wait()

    def train(self, inputs: Sequence[Any], repeats: int = 1) -> None:
        """So many passes over all inputs."""
        for _ in range(repeats):
            for batch in inputs:
                self.update(batch)
        wait()

    def seconds(self, inputs: Sequence[Any], repeats: int = 1) -> float:
        """Seconds for one pass over all inputs."""
        self.load()
        start = time.perf_counter()
        self.train(inputs, repeats)
        return (time.perf_counter() - start) / repeats

    def repeats(self, inputs: Sequence[Any]) -> int:
        """How many passes make a round; the first pass, which may compile, does not count."""
        self.seconds(inputs)
        return max(1, round(SECONDS / self.seconds(inputs)))


def wait() -> None:
    """Until an accelerator has done what it was given: that belongs to the step."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def use_threads(number: int) -> None:
    """Have torch use so many threads, if it is there."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != number:
        torch.set_num_threads(number)


def timed(
    subject: Any, config: Config, hyper: Hyper, state: State, documents: Documents, sizes: Sequence[int], threads: int
) -> Timing:
    """Time steps of one document each on one thread, in turns with the reference, and batches on all threads."""
    watch, timing = Stopwatch(subject, state), Timing(batch_threads=threads)
    use_threads(timing.batch_threads)
    with _memory() as growth:
        for size in sizes:
            batch = [list(documents[i % len(documents)]) for i in range(size)]
            inputs = [watch.prepare(batch)]
            repeats = watch.repeats(inputs)
            rounds = [watch.seconds(inputs, repeats) / size for _ in range(5)]
            timing.batches[size] = statistics.median(rounds)
            if size <= MEMORY_SIZE:
                timing.memory = growth()
            if 4 * timing.batches[size] * size > LONGEST:  # as the next one, four times as large, would take
                break
    use_threads(timing.threads)
    with frozen_garbage():
        _one_by_one(timing, watch, config, hyper, documents)
    return timing


def _one_by_one(timing: Timing, watch: Stopwatch, config: Config, hyper: Hyper, documents: Documents) -> None:
    few = documents[:20]
    inputs = [watch.prepare([list(tokens)]) for tokens in few]
    repeats = watch.repeats(inputs)
    leaves = {name: microgpt.elementwise(microgpt.Value, matrix) for name, matrix in watch.state.params.items()}

    def reference(batch: Documents) -> float:
        start = time.perf_counter()
        if getattr(watch.subject, "forward_only", False):
            for tokens in batch:
                microgpt.document_loss(tokens, leaves, config)
        else:
            microgpt.train_step(watch.state, batch, config, hyper)
        return (time.perf_counter() - start) / len(batch)

    passes: list[float] = []
    scalar: list[list[float]] = [[] for _ in few]
    for _ in range(ROUNDS):
        for tokens, seconds in zip(few, scalar):
            passes.append(watch.seconds(inputs, repeats) / len(few))
            seconds.append(reference([tokens]))
    timing.low, timing.step, timing.high = statistics.quantiles(passes, n=4)
    timing.reference = statistics.mean(map(statistics.median, scalar))  # every document counts once, as in a pass
    timing.reference_batch = statistics.median(reference(few) for _ in range(ROUNDS))


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Leave the garbage collector what is made from here on, as in a bare process, and nothing that torch holds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _memory() -> Iterator[Callable[[], int]]:
    """A function that tells by how many bytes the process and its children grew at most, from here on."""

    def used() -> int:
        process = psutil.Process()
        total = 0
        for member in (process, *process.children(recursive=True)):
            try:
                total += member.memory_info().rss
            except psutil.Error:
                continue
        return total

    gc.collect()
    before = peak = used()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, used())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(peak, used()) - before
    finally:
        done.set()
        watcher.join()
