"""Floors of few replicas: how often a correct element comes beyond the limit, and what is lost."""

import numpy as np
import pytest

from parity.judging.moderation import FREEDOM, moderated
from parity.verdict import limit

NUMBER, REPLICAS = 40_000, 8


def largest(true_floor, false_alarm=1e-3, seed=0):
    """The largest z of correct elements, and the limit."""
    draw = np.random.default_rng(seed)
    expected = draw.normal(size=NUMBER)
    errors = draw.normal(size=NUMBER) * true_floor
    spread = np.sqrt(np.mean((draw.normal(size=(REPLICAS, NUMBER)) * true_floor) ** 2, axis=0))
    floor = moderated(spread, expected, REPLICAS, false_alarm, NUMBER)
    return np.max(np.abs(errors) / floor), limit(false_alarm, NUMBER, FREEDOM + 1), floor


@pytest.mark.parametrize("scatter", [0.0, 0.3, 1.0, 3.0])
def test_correct_elements_stay_inside_however_their_floors_scatter(scatter):
    true_floor = np.exp(scatter * np.random.default_rng(1).normal(size=NUMBER))
    for seed in range(3):
        z, most, _ = largest(true_floor, seed=seed)
        assert z < most


def test_few_elements_with_a_much_larger_floor_stay_inside():
    true_floor = np.where(np.arange(NUMBER) % 400 == 0, 30.0, 1.0)
    z, most, _ = largest(true_floor)
    assert z < most


def test_equal_floors_are_known_as_from_many_replicas():
    _, _, floor = largest(np.ones(NUMBER))
    assert np.median(floor) == pytest.approx(1, rel=0.05)


def test_unlike_floors_are_left_to_students_t():
    true_floor = np.exp(4 * np.random.default_rng(1).normal(size=NUMBER))
    _, most, floor = largest(true_floor)
    wide = limit(1e-3, NUMBER, REPLICAS + 1) / most
    assert np.median(floor / true_floor) > 0.5 * wide


def test_exact_elements_stay_exact_and_many_replicas_speak_for_themselves():
    floor = np.r_[np.zeros(50), np.ones(50)]
    assert np.all(moderated(floor, np.ones(100), REPLICAS, 1e-9, 100)[:50] == 0)
    assert moderated(floor, np.ones(100), FREEDOM, 1e-9, 100) is floor
