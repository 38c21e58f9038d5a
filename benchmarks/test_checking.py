"""What checking costs beside what it checks: every quantity at every step, exact oracle and noise floor included.

    pytest benchmarks/test_checking.py --benchmark-only

Times are those of a step.
"""

import os
from dataclasses import replace
from functools import partial

import pytest

import reference.microgpt
from parity import Case, check
from parity.subjects.timing import frozen_garbage, typical

from .conftest import Timed
from .rungs import reference_training, rung_named, subject_of, training

SUBJECT = rung_named("positions")
CHECKED = 100
TYPICAL = 20


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=1000)


def checking(case: Case, steps: int, mode: str) -> Timed:
    part = replace(case, steps=steps)

    def checked() -> None:
        assert check(SUBJECT.factory, part, modes=[mode]).verdict.passes

    return Timed(checked, units=steps)


@pytest.mark.benchmark(group="checking beside training")
@pytest.mark.parametrize("mode", ["lock-step", "free-running"])
def test_check(measure_in_turn, case, mode, few):
    checked = few(3, CHECKED)
    batches = [[tokens] for tokens in typical(case.documents[:checked], few(3, TYPICAL))]
    sides = {name: training(subject_of(rung_named(name), case), case, batches) for name in ("positions", "float32")}
    measure_in_turn(
        {
            "reference": reference_training(case, batches),
            **sides,
            f"check of positions, {mode}": checking(case, checked, mode),
        },
        rounds=5,
    )


@pytest.mark.benchmark(group="a thousand steps")
def test_thousand_steps(measure_in_turn, case):
    def train(step) -> None:
        state = case.state
        for batch in case.batches():
            state, _ = step(state, batch, case.config, case.hyper)

    step = reference.microgpt.train_step
    sides = {
        "reference": Timed(partial(train, step), frozen_garbage, units=case.steps),
        "reference with gc": Timed(partial(train, step.__wrapped__), frozen_garbage, units=case.steps),
        "check of positions, lock-step": checking(case, case.steps, "lock-step"),
        "check of positions, free-running": checking(case, case.steps, "free-running"),
    }
    measure_in_turn(sides, rounds=1)
