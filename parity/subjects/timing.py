"""How long a subject's steps take and how much memory, beside the reference in the same process and minutes."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Self

from parity.subjects.attributes import without_update
from parity.subjects.calls import wait
from parity.subjects.memory import used, used_on_device, watched
from parity.subjects.subject import own_state
from parity.subjects.turns import in_turns
from reference import microgpt
from reference.config import Config, Hyper, State

SECONDS = 0.1
"""Length of a subject's turn; what is shorter is repeated. The first steps of a turn are slow, for after the
reference's the subject's data is out of the cache and its threads sleep; in so long a turn they hardly count."""
ROUNDS = 3
"""Passes of which a batch size is given the median. Beside the reference there are twice as many rounds."""
FEW = 20
"""Documents that the reference takes in its turn: about a second of it."""
_LONGEST = 2.0
"""Seconds that a batch may take; larger ones are not tried."""
_MEMORY_SIZE = 256
"""Memory is that of batches up to this size: fast rungs are tried with larger ones, too, and must not seem wasteful."""
_AS_GOOD = 1.05
"""The best batch is the smallest one whose documents take at most so many times as long as those of the fastest."""

Documents = Sequence[Sequence[int]]


@dataclass
class Timing:
    """What a subject takes, and the reference in turns with it; all times are in seconds.

    step, low, high: a step of one document on `threads` threads, the median and the quartiles of its turns. batches: a
    document in a batch on `batch_threads` threads, by batch size; best: the smallest size that is as good as the
    fastest (_AS_GOOD). reference: a step of the reference on the same documents; reference_batch: a document of it in
    a batch of FEW. memory: bytes by which the process and its children grew at most with batches up to _MEMORY_SIZE,
    or that a GPU held. forward_only: neither side has done more than the forward pass.
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
    """A subject whose steps are timed.

    A subject that has `prepare` and `update` is asked for its tensors before the clock starts, as training makes them
    once for all epochs; of any other the whole train_step is timed.
    """

    def __init__(self, subject: Any, state: State, num_steps: int, round_seconds: float = SECONDS) -> None:
        self.subject, self.state, self.num_steps, self.round_seconds = subject, state, num_steps, round_seconds
        self.prepare: Callable[[Any], Any] = getattr(subject, "prepare", list)
        self.update: Callable[[Any], Any] = getattr(subject, "update", subject.train_step)

    def load(self) -> None:
        """Start again from the same state."""
        # Thousands of steps on the same few documents fit them so well that gradients become subnormal numbers, with
        # which processors are slow: later turns would seem to take longer than earlier ones.
        self.subject.load(State(self.state.params, self.state.m, self.state.v, self.state.step))
        wait()

    def seconds(self, inputs: Sequence[Any], repeats: int = 1) -> float:
        """Seconds for one pass over all inputs, of so many, from the same state."""
        self.load()
        start = time.perf_counter()
        for _ in range(repeats):
            for batch in inputs:
                self.update(batch)
        wait()
        return (time.perf_counter() - start) / repeats

    def repeats(self, inputs: Sequence[Any]) -> int:
        """How many passes make a turn: as many as fill it, but no more steps than the learning-rate schedule has."""
        self.seconds(inputs)  # the first pass may compile
        before_the_schedule_ends = (self.num_steps - self.state.step) // len(inputs)
        return max(1, min(round(self.round_seconds / self.seconds(inputs)), before_the_schedule_ends))


def _use_threads(number: int) -> None:
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
    """Time batches of these sizes on so many threads, and steps of one document each on one thread.

    In turns with the reference: the batch size that turned out to be the best, and the single steps.
    """
    state = own_state(subject, config, state)
    watch = Stopwatch(subject, state, hyper.num_steps, round_seconds)
    timing = Timing(batch_threads=threads, forward_only=without_update(subject) == "forward_only")
    _use_threads(timing.batch_threads)
    _time_batches(timing, watch, documents, sizes)
    few = typical(documents, FEW)
    with frozen_garbage():
        step = reference_step(config, hyper, state, timing.forward_only)

        def reference(batches: Sequence[Documents]) -> float:
            """Seconds a document; one batch after another, as in training."""
            start = time.perf_counter()
            for batch in batches:
                step(batch)
            return (time.perf_counter() - start) / sum(map(len, batches))

        inputs = [watch.prepare(batch_of(documents, timing.best))]
        seconds, timing.reference_batch = _in_turns_with(partial(reference, [few]), watch, inputs)
        timing.batches[timing.best] = statistics.median(seconds) / timing.best

        _use_threads(timing.threads)
        singles = [[tokens] for tokens in few]
        inputs = [watch.prepare(batch) for batch in singles]
        seconds, timing.reference = _in_turns_with(partial(reference, singles), watch, inputs, turns=ROUNDS)
    timing.low, timing.step, timing.high = (each / FEW for each in statistics.quantiles(seconds, n=4))
    return timing


def _time_batches(timing: Timing, watch: Stopwatch, documents: Documents, sizes: Sequence[int]) -> None:
    """Batch after batch without the reference, which would take minutes for each; which one is best; and memory."""
    before = used()
    for size in sizes:
        inputs = [watch.prepare(batch_of(documents, size))]
        with watched() as most:  # not while the clock runs: it takes time to look
            repeats = watch.repeats(inputs)
        if size <= _MEMORY_SIZE:
            timing.memory = max(timing.memory, most() - before)
        timing.batches[size] = statistics.median(watch.seconds(inputs, repeats) / size for _ in range(ROUNDS))
        if 4 * timing.batches[size] * size > _LONGEST:  # as the next one, four times as large, would take
            break
    timing.memory = used_on_device() or timing.memory
    least = min(timing.batches.values())
    timing.best = next(size for size, seconds in timing.batches.items() if seconds <= _AS_GOOD * least)


def _in_turns_with(
    reference: Callable[[], float], watch: Stopwatch, inputs: Sequence[Any], turns: int = 1
) -> tuple[list[float], float]:
    """Seconds for a pass in each of the subject's turns, so many to each of the reference, whose median follows."""
    own = partial(watch.seconds, inputs, watch.repeats(inputs))
    *seconds, others = zip(*islice(in_turns([own] * turns + [reference]), 2 * ROUNDS), strict=True)
    return [each for turn in seconds for each in turn], statistics.median(others)


def reference_step(config: Config, hyper: Hyper, state: State, forward_only: bool) -> Callable[[Documents], Any]:
    """What the reference does with a batch, always from the same state: a training step, or the forward pass alone."""
    if not forward_only:
        return lambda batch: microgpt.train_step(state, batch, config, hyper)
    leaves = {name: microgpt.elementwise(microgpt.Value, matrix) for name, matrix in state.params.items()}
    forward = microgpt.without_gc(microgpt.batch_loss)  # type: ignore[no-untyped-call]
    return lambda batch: forward(batch, leaves, config)


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Hide from the garbage collector all that exists by now, above all the many objects of torch.

    Within the block it goes through what is made there alone. So the reference takes as long as in a process of its
    own, where nothing else is to be gone through.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
