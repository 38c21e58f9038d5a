"""One training step of default size, reference beside twin: whole, and forward, backward and Adam apart.

    pytest benchmarks --benchmark-only

Documents come from the file that MICROGPT_NAMES names, or from the embedded names.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch

import reference.microgpt
import torch_twin.microgpt
from parity import Case, State
from parity.subjects.timing import frozen_garbage
from reference.microgpt import Value, elementwise, without_gc

from .conftest import Timed


@dataclass(frozen=True)
class Side:
    """One implementation: its module, the state in its own kind of tensors, and how a tensor becomes leaves."""

    name: str
    module: ModuleType
    state: State
    leaf: Callable[[Any], Any]

    def leaves(self) -> dict[str, Any]:
        return {name: self.leaf(matrix) for name, matrix in self.state.params.items()}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=1)


@pytest.fixture(scope="module")
def batch(case) -> list[list[int]]:
    return next(case.batches())


@pytest.fixture(scope="module")
def sides(case) -> dict[str, Side]:
    tensors = (
        {name: torch.tensor(matrix, dtype=torch.float64) for name, matrix in matrices.items()}
        for matrices in (case.state.params, case.state.m, case.state.v)
    )
    twin_state = State(*tensors, case.state.step)
    return {
        "reference": Side("reference", reference.microgpt, case.state, partial(elementwise, Value)),
        "twin": Side("twin", torch_twin.microgpt, twin_state, lambda matrix: matrix.detach().requires_grad_()),
    }


@pytest.fixture(params=["reference", "twin"])
def side(request, sides) -> Side:
    return sides[request.param]


@pytest.mark.benchmark(group="step")
def test_step(measure, side, batch, case, benchmark):
    benchmark.extra_info["positions"] = [min(case.config.block_size, len(tokens) - 1) for tokens in batch]
    measure(side.name, lambda: side.module.train_step(side.state, batch, case.config, case.hyper))


@pytest.mark.benchmark(group="step in turn")
def test_steps_in_turn(measure_in_turn, sides, batch, case):
    ours, twin = sides["reference"], sides["twin"]
    ours_step = partial(ours.module.train_step, ours.state, batch, case.config, case.hyper)
    with_gc = partial(reference.microgpt.train_step.__wrapped__, ours.state, batch, case.config, case.hyper)
    measure_in_turn(
        {
            "reference": Timed(ours_step, frozen_garbage),
            "twin": Timed(partial(twin.module.train_step, twin.state, batch, case.config, case.hyper)),
            "reference with gc, bare": Timed(with_gc, frozen_garbage),
            "reference with gc, beside torch": Timed(with_gc),
        }
    )


@pytest.mark.benchmark(group="forward")
def test_forward(measure, side, batch, case):
    # The graph is dropped inside the measured time, as a step drops its own.
    measure(side.name, without_gc(lambda: side.module.batch_loss(batch, side.leaves(), case.config)))


@pytest.mark.benchmark(group="backward")
def test_backward(measure, side, batch, case):
    graph = without_gc(lambda: side.module.batch_loss(batch, side.leaves(), case.config)[0])
    measure(side.name, without_gc(lambda loss: loss.backward()), setup=lambda: ((graph(),), {}))


@pytest.mark.benchmark(group="adam")
def test_adam(measure, side, batch, case):
    _, step = side.module.train_step(side.state, batch, case.config, case.hyper)
    measure(side.name, without_gc(lambda: side.module.adam(side.state, step.grads, case.hyper)))
