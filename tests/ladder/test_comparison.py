"""Each rung beside the rung below: the one that it builds on, or the nearest one under that which has a speed."""

import json

import pytest

from parity import Verdict
from parity.ladder import Rung, RungResult
from parity.ladder.comparison import compared
from parity.subjects.timing import Timing

LADDER = [
    Rung("first", "tests.examples.numpy_port:make"),
    Rung("second", "tests.examples.numpy_port:make", below="first"),
    Rung("aside", "tests.examples.numpy_port:make", below="first"),
    Rung("third", "tests.examples.numpy_port:make", below="second"),
]


def found(number: int, speed_up: float | None, *, forward_only: bool = False) -> dict:
    """What is found of a rung, so many times as fast as the reference (in batches: twice that); None: not timed."""
    timing = None
    if speed_up is not None:
        timing = Timing(1.0, reference=speed_up, batches={1: 1.0}, reference_batch=2 * speed_up)
        timing.forward_only = forward_only
    return RungResult(LADDER[number], Verdict.PARITY, [], timing, failure="no check was made").to_dict()


def below(results: list[dict]) -> dict[str, tuple]:
    return {rung["rung"]: (rung["rung_below"], rung["speed_up_over_rung_below"]) for rung in compared(results, LADDER)}


def test_rung_is_compared_with_the_one_that_it_builds_on_and_not_with_the_one_before():
    assert below([found(0, 2.0), found(1, 6.0), found(2, 3.0), found(3, 9.0)]) == {
        "first": (None, [None, None]),
        "second": ("first", [3.0, 3.0]),
        "aside": ("first", [1.5, 1.5]),
        "third": ("second", [1.5, 1.5]),
    }


@pytest.mark.parametrize("second", [[], [None]], ids=["not run", "without a speed"])
def test_rung_without_a_speed_is_passed_over_on_the_way_down(second):
    results = [found(0, 2.0), *(found(1, speed) for speed in second), found(3, 9.0)]
    assert below(results)["third"] == ("first", [4.5, 4.5])


def test_nothing_is_said_of_a_rung_without_a_speed():
    assert below([found(0, 2.0), found(1, None)])["second"] == ("first", None)


def test_forward_pass_is_not_compared_with_training():
    assert below([found(0, 2.0), found(1, 6.0, forward_only=True)])["second"] == ("first", [None, None])
    both = [found(0, 2.0, forward_only=True), found(1, 6.0, forward_only=True)]
    assert below(both)["second"] == ("first", [3.0, 3.0])


def test_what_was_stored_can_be_compared_anew():
    results = [found(0, 2.0), found(1, 6.0)]
    stored = json.loads(json.dumps(compared(results, LADDER)))
    moved = [LADDER[0], Rung("second", "tests.examples.numpy_port:make")]
    assert [rung["rung_below"] for rung in compared(stored, moved)] == [None, None]
    assert compared(stored, LADDER) == stored
