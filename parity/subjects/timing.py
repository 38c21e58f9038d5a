"""How long a subject's steps take and how much memory, beside the reference in the same process and minutes."""

import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import psutil

from parity.subjects.calls import wait
from reference import microgpt
from reference.config import Config, Hyper, State

SECONDS = 0.1
"""A round repeats what is shorter: first steps after the reference's find nothing in the cache and threads asleep."""
ROUNDS = 3
FEW = 20
"""Documents that the reference takes in a round."""
LONGEST = 2.0
"""Seconds that a batch may take; larger ones are not tried."""
MEMORY_SIZE = 256
"""Memory is that of batches up to this size, lest fast rungs seem wasteful for being tried with larger ones."""

Documents = Sequence[Sequence[int]]


@dataclass
class Timing:
    """Seconds a step of one document (median and quartiles of rounds), and a document in batches, by batch size.

    best: the smallest batch at which a document takes no more than 5 % longer than at any.
    reference: seconds a step of the reference on the same documents; reference_batch: seconds a document of it in a
    batch; each timed in turns with the subject. forward_only: neither has done more than the forward pass. memory:
    bytes that the process and its children grew by at most with batches up to 256, or that a GPU held.
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
    forward_only: bool = False
    best: int = 1

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

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """From what JSON has made of it, which has no numbers as keys."""
        return cls(**{**fields, "batches": {int(size): seconds for size, seconds in fields["batches"].items()}})


class Stopwatch:
    """A subject whose steps are timed: `prepare` outside of the clock and `update`, or train_step where it has none."""

    def __init__(self, subject: Any, state: State, num_steps: int, round_seconds: float = SECONDS) -> None:
        self.subject, self.state, self.num_steps, self.round_seconds = subject, state, num_steps, round_seconds
        self.prepare: Callable[[Any], Any] = getattr(subject, "prepare", list)
        self.update: Callable[[Any], Any] = getattr(subject, "update", subject.train_step)

    def load(self) -> None:
        """Start again from the same state."""
        # Where training has gone on and on, gradients vanish, and arithmetic on subnormal numbers is slow.
        self.subject.load(State(self.state.params, self.state.m, self.state.v, self.state.step))
        wait()

    def seconds(self, inputs: Sequence[Any], repeats: int = 1) -> float:
        """Seconds for one pass over all inputs."""
        self.load()
        start = time.perf_counter()
        for _ in range(repeats):
            for batch in inputs:
                self.update(batch)
        wait()
        return (time.perf_counter() - start) / repeats

    def repeats(self, inputs: Sequence[Any]) -> int:
        """How many passes make a round; the first pass, which may compile, does not count."""
        self.seconds(inputs)
        before_the_end = (self.num_steps - self.state.step) // len(inputs)  # of the learning-rate schedule
        return max(1, min(round(self.round_seconds / self.seconds(inputs)), before_the_end))


def use_threads(number: int) -> None:
    """Have torch use so many threads, if it is there."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != number:
        torch.set_num_threads(number)


def typical(documents: Documents, number: int) -> list[list[int]]:
    """So many of the documents, evenly spaced by length: on average they are as long as all of them."""
    ordered = sorted(documents, key=len)
    return [list(ordered[(2 * i + 1) * len(ordered) // (2 * number)]) for i in range(number)]


def batch_of(documents: Documents, size: int) -> list[list[int]]:
    """All documents as often as the batch has room for them, and typical ones for the rest."""
    times, rest = divmod(size, len(documents))
    return [list(tokens) for tokens in documents] * times + typical(documents, rest)


def timed(
    subject: Any,
    config: Config,
    hyper: Hyper,
    state: State,
    documents: Documents,
    sizes: Sequence[int],
    threads: int,
    round_seconds: float = SECONDS,
) -> Timing:
    """Time batches on all threads and steps of one document each on one, in turns with the reference."""
    watch = Stopwatch(subject, state, hyper.num_steps, round_seconds)
    timing = Timing(batch_threads=threads, forward_only=getattr(subject, "forward_only", False))
    use_threads(timing.batch_threads)
    before = _used()
    for size in sizes:
        inputs = [watch.prepare(batch_of(documents, size))]
        with _peak() as peak:  # not while the clock runs: it takes time to look
            repeats = watch.repeats(inputs)
        if size <= MEMORY_SIZE:
            timing.memory = max(timing.memory, peak() - before)
        timing.batches[size] = statistics.median(watch.seconds(inputs, repeats) / size for _ in range(ROUNDS))
        if 4 * timing.batches[size] * size > LONGEST:  # as the next one, four times as large, would take
            break
    timing.memory = _on_device() or timing.memory
    least = min(timing.batches.values())
    timing.best = next(size for size, seconds in timing.batches.items() if seconds <= 1.05 * least)
    few = typical(documents, FEW)
    with frozen_garbage():
        step = reference_step(config, hyper, state, timing.forward_only)

        def reference(batch: Documents) -> float:
            start = time.perf_counter()
            step(batch)
            return (time.perf_counter() - start) / len(batch)

        inputs = [watch.prepare(batch_of(documents, timing.best))]
        repeats, seconds, scalar = watch.repeats(inputs), [], []
        for _ in range(2 * ROUNDS):
            seconds.append(watch.seconds(inputs, repeats) / timing.best)
            scalar.append(reference(few))
        timing.batches[timing.best] = statistics.median(seconds)
        timing.reference_batch = statistics.median(scalar)
        use_threads(timing.threads)
        inputs = [watch.prepare([tokens]) for tokens in few]
        repeats, seconds, scalar = watch.repeats(inputs), [], []
        for _ in range(2 * ROUNDS):
            seconds += [watch.seconds(inputs, repeats) / len(few) for _ in range(ROUNDS)]
            # One after another, as in training: a step after something else finds nothing in the cache.
            scalar.append(statistics.mean(reference([tokens]) for tokens in few))
    timing.low, timing.step, timing.high = statistics.quantiles(seconds, n=4)
    timing.reference = statistics.median(scalar)
    return timing


def reference_step(config: Config, hyper: Hyper, state: State, forward_only: bool) -> Callable[[Documents], Any]:
    """What the reference does with a batch, always from the same state: a training step, or the forward pass alone."""
    if not forward_only:
        return lambda batch: microgpt.train_step(state, batch, config, hyper)
    leaves = {name: microgpt.elementwise(microgpt.Value, matrix) for name, matrix in state.params.items()}
    forward = microgpt.without_gc(microgpt.batch_loss)  # type: ignore[no-untyped-call]
    return lambda batch: forward(batch, leaves, config)


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Leave the garbage collector what is made from here on, as in a bare process, and nothing that torch holds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _used() -> int:
    """Bytes of memory that the process and its children hold."""
    total, process = 0, psutil.Process()
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += member.memory_info().rss
    return total


def _on_device() -> int:
    """Bytes of an accelerator's memory that were in use at most; 0 where there is none."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """A function that tells the most that was used within the block."""
    peak = _used()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, _used())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: peak
    finally:
        peak = max(peak, _used())
        done.set()
        watcher.join()
