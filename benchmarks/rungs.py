"""What the benchmarks of rungs share: sides that train, the operations of a step, and the peak that limits them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from parity import Case
from parity.ladder import RUNGS, Rung
from parity.oracle.graph import record
from parity.oracle.program import compile_graph
from parity.subjects.calls import wait
from parity.subjects.subject import make_subject
from parity.subjects.timing import Documents, Stopwatch, frozen_garbage, reference_step
from reference.config import Config, Hyper
from torch_twin.positions import Positions
from torch_twin.tools.threads import threads

from .conftest import Timed

CORES = os.cpu_count() or 1
PORT = Rung("numpy_port", "tests.examples.numpy_port:make", dtype="float32", title="NumPy: gradients by hand.")
SIZE = 1024
"""Rows and columns of the matrices whose product is the peak: on a CPU, larger ones are no faster."""


def rung_named(name: str) -> Rung:
    return next(rung for rung in RUNGS if rung.name == name)


def subject_of(rung: Rung, case: Case, cores: int = 1) -> Any:
    """As the ladder makes it."""
    with threads(cores):
        device = "cuda" if rung.cuda else None
        return make_subject(rung.factory, case.config, case.hyper, dtype=rung.dtype, device=device)


def training(subject: Any, case: Case, batches: Sequence[Documents], cores: int = 1) -> Timed:
    """A step on each of these batches; what is timed is a document."""
    watch = Stopwatch(subject, case.state, case.hyper.num_steps)
    prepared = [watch.prepare([list(tokens) for tokens in batch]) for batch in batches]
    with threads(cores):
        passes = watch.repeats(prepared)
    inputs = cycle(prepared)

    @contextmanager
    def from_the_start() -> Iterator[None]:
        watch.load()
        with threads(cores):
            yield

    return Timed(lambda: watch.update(next(inputs)), from_the_start, passes * len(batches), len(batches[0]), wait)


def reference_training(case: Case, batches: Sequence[Documents], forward_only: bool = False) -> Timed:
    """The same of the reference, always from the case's state; or no more than the forward pass."""
    inputs, step = cycle(batches), reference_step(case.config, case.hyper, case.state, forward_only)
    return Timed(lambda: step(next(inputs)), frozen_garbage, len(batches), len(batches[0]))


def product(subject: Any, cores: int = 1) -> Timed:
    """A product of two square matrices where the subject computes; what is timed is a floating-point operation."""
    dtype, device = getattr(subject, "dtype", "float64"), getattr(subject, "device", "cpu")
    left, right = torch.ones(2, SIZE, SIZE, dtype=getattr(torch, dtype), device=device).unbind()
    return Timed(partial(torch.mm, left, right), partial(threads, cores), units=2 * SIZE**3, finish=wait)


@cache
def flops(config: Config, n: int, forward_only: bool = False) -> int:
    """Floating-point operations in the matrix products of a step on one document of n positions."""
    subject = Positions(config, Hyper())
    params = {name: torch.ones(shape, requires_grad=not forward_only) for name, shape in config.shapes().items()}
    with FlopCounterMode(display=False) as counter:
        loss, _ = subject.loss(subject.prepare([[0] * (n + 1)]), params)
        if not forward_only:
            loss.backward()
    return counter.get_total_flops()


def recorded(config: Config, n: int) -> int:
    """Scalar operations in the reference's graph of n positions."""
    return compile_graph(record(config, n)).nodes


@cache
def operations(config: Config, n: int) -> int:
    """The same, also of graphs too large to be recorded.

    The number is a polynomial of degree 2 in n_embd and in n, and of degree 1 in n_layer: here the one through small
    graphs with as many heads.
    """
    widths, lengths, layers = [config.n_head * k for k in (1, 2, 3)], [2, 3, 4], [1, 2]

    def through(x: list[int], y: list[int], at: int) -> int:
        return round(float(np.polyval(np.polyfit(x, y, len(x) - 1), at)))

    def of_depth(width: int, length: int, layers: int) -> int:
        return recorded(replace(config, n_embd=width, block_size=length, n_layer=layers), length)

    def of_length(width: int, length: int) -> int:
        return through(layers, [of_depth(width, length, number) for number in layers], config.n_layer)

    def of_width(width: int) -> int:
        return through(lengths, [of_length(width, length) for length in lengths], n)

    return through(widths, [of_width(width) for width in widths], config.n_embd)
