"""The compiled measures of a step say what plain NumPy says of each tensor."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.judging.element_errors import WRONG_ANSWERS
from parity.judging.judge import Judge
from parity.judging.mode_result import ModeResult
from parity.judging.pairs import Pairs, joined, same_bits
from parity.judging.quantity_result import wrong_answers
from parity.number_formats import FORMATS
from parity.quantities import TensorKey

LIMIT = 8.0

finite = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from((0.0, -0.0, 1.0, 5e-324, 1e-310))
numbers = finite | st.sampled_from((1.0 + 2.0**-52, math.inf, math.nan))
sigmas = st.floats(0, math.inf) | st.sampled_from((0.0, 2.0**-53, math.inf, math.nan))
shapes = st.sampled_from(((), (1,), (2, 3), (4, 1)))


def tensor(quantity: str, name: str, actual, expected, sigma, wide_sigma=None, step: int = 0) -> Pairs:
    """A single tensor on both sides."""
    key, expected = TensorKey(quantity, name), np.asarray(expected, dtype=float)
    sides = ([np.asarray(side, dtype=float).ravel()] for side in (actual, expected, sigma))
    pairs = Pairs.of(step, [(key, expected.shape)], *sides)
    return pairs if wide_sigma is None else pairs.with_sides(wide_sigma=np.ravel(wide_sigma))


def distance(actual, expected):
    """The error as plain NumPy has it."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(actual == expected, 0.0, np.abs(actual - expected))


def over_floor(error, sigma):
    """z as plain NumPy has it."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = np.where(np.isfinite(sigma), error / sigma, np.nan)
    z = np.where(np.isnan(error) | ((sigma == 0) & (error != 0)), np.inf, z)
    return np.where(error == 0, 0.0, z)


@st.composite
def steps(draw):
    """Some tensors of one step, in groups of quantities."""
    tensors = []
    for quantity in draw(st.lists(st.sampled_from(("logits", "grad", "m")), min_size=1, max_size=3, unique=True)):
        for number in range(draw(st.integers(1, 3))):
            shape = draw(shapes)
            expected = draw(hnp.arrays(np.float64, shape, elements=finite))
            actual = expected if draw(st.booleans()) else draw(hnp.arrays(np.float64, shape, elements=numbers))
            sigma = draw(hnp.arrays(np.float64, shape, elements=sigmas))
            wide = draw(st.none() | hnp.arrays(np.float64, shape, elements=sigmas))
            tensors.append(tensor(quantity, f"{quantity} {number}", actual, expected, sigma, wide, step=3))
    return tensors


def ulps(form, actual: float, expected: float) -> float:
    """The distance in numbers of a format, from the definition: rounded, and counted in steps of the format."""
    if not (math.isfinite(actual) and math.isfinite(expected)):
        return 0.0 if actual == expected else math.inf

    def place(x: float) -> int:
        exponent = max(math.frexp(abs(x))[1], form.lowest) if x else form.lowest
        count = int(np.rint(math.ldexp(abs(x), form.digits - exponent)))
        if count == 2**form.digits:
            count, exponent = count // 2, exponent + 1
        return int(math.copysign(1, x)) * (count + ((exponent - form.lowest) << (form.digits - 1)))

    return float(abs(place(actual) - place(expected)))


def largest(sizes) -> tuple[int, float]:
    place = int(np.argmax(sizes))
    return place, float(sizes[place])


@pytest.mark.parametrize("name", FORMATS)
@given(tensors=steps())
def test_measures_are_those_of_plain_numpy(name, tensors):
    assert_measures(Judge(FORMATS[name], LIMIT, 1e-9), tensors)


ONE_APART = [tensor("grad", "wte", [1.0, 2.0], [1.0, 3.0], [0.0, 0.0])]


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("ulps", lambda form, actual, expected: 0.0),
        ("over_floor", lambda error, sigma: np.where(sigma > 0, error, 0.0)),
        ("distance", lambda actual, expected: (actual - expected) ** 2 / 2),
    ],
)
def test_measures_that_differ_are_seen(monkeypatch, place, wrong):
    assert_measures(Judge(FORMATS["float64"], LIMIT, 1e-9), ONE_APART)
    monkeypatch.setattr(f"{__name__}.{place}", wrong)
    with pytest.raises(AssertionError):
        assert_measures(Judge(FORMATS["float64"], LIMIT, 1e-9), ONE_APART)


def assert_measures(judge: Judge, tensors: list[Pairs]) -> None:
    pairs = joined(3, tensors)
    found = judge.measures(pairs)
    assert judge.count_outside(pairs) == sum(found.outside)
    for group, quantity in enumerate(pairs.layout.groups):
        members = [t for t in tensors if t.keys[0].quantity == quantity]
        actual, expected, sigma = (
            np.concatenate([getattr(t, part) for t in members]) for part in ("actual", "expected", "sigma")
        )
        error = distance(actual, expected)
        z = over_floor(error, sigma)
        assert np.array_equal(np.concatenate([t.error for t in members]), error, equal_nan=True)
        assert np.array_equal(np.concatenate([t.z for t in members]), z, equal_nan=True)
        start = pairs.layout.starts[pairs.layout.first_tensors[group]]
        assert found.elements[group] == len(actual)
        assert found.zero_in_both[group] == np.count_nonzero((actual == 0) & (expected == 0))
        assert found.exact[group] == np.count_nonzero(sigma == 0)
        assert found.undecided[group] == np.count_nonzero(np.isnan(z))
        assert found.outside[group] == np.count_nonzero(z > LIMIT)
        assert found.unequal[group] == sum(struct.pack("d", a) != struct.pack("d", b) for a, b in zip(actual, expected))
        assert found.first_outside[group] == (start + np.argmax(z > LIMIT) if (z > LIMIT).any() else -1)
        distances = np.array([ulps(judge.form, a, b) for a, b in zip(actual, expected)])
        for what, sizes in enumerate(
            (np.where(np.isnan(z), -1.0, z), np.where(np.isnan(error), np.inf, error), distances)
        ):
            place, size = largest(sizes)
            assert (found.places[group][what] - start, found.sizes[group][what]) == (place, size)
    for number, t in enumerate(tensors):
        assert_power(t, judge, found, number)


def assert_power(t: Pairs, judge: Judge, found, number: int) -> None:
    expected, sigma = t.expected, t.wide_sigma
    with np.errstate(all="ignore"):
        visible = (LIMIT * sigma / np.abs(expected))[(expected != 0) & np.isfinite(sigma)]
        median = np.median(visible) if len(visible) else math.nan
    assert np.array_equal(found.medians[number], median, equal_nan=True)
    assert found.worst[number] == max(visible, default=0.0)
    shuffled = np.random.default_rng(expected.size).permutation(expected.size)
    given_answers = (np.zeros_like(expected), -expected, expected[::-1], expected[shuffled])
    for which, (name, answer) in enumerate(zip(WRONG_ANSWERS, given_answers, strict=True)):
        bit = 1 << which
        right = which >= 2 and expected.any() and np.array_equal(answer, expected)
        accepted = judge.accepts(t.with_sides(actual=answer, sigma=sigma))
        assert bool(found.accepted[number] & bit) == (accepted and not right), name
        assert bool(found.refused[number] & bit) == (not accepted and not right), name


@given(tensors=steps())
def test_an_element_looks_the_same_from_its_tensor_and_from_the_step(tensors):
    pairs = joined(3, tensors)
    form = FORMATS["float32"]
    for number, t in enumerate(tensors):
        for i in range(t.expected.size):
            difference = t.at(i, form)
            assert str(pairs.at(int(pairs.layout.starts[number]) + i, form)) == str(difference)
            error = distance(t.actual, t.expected)[i]
            assert np.array_equal(difference.error, error, equal_nan=True)
            assert np.array_equal(difference.z, over_floor(error, t.sigma[i]), equal_nan=True)


@given(tensors=steps())
def test_pairs_come_apart_into_their_tensors(tensors):
    pairs = joined(3, tensors)
    assert [t.keys for t in pairs] == [t.keys for t in tensors]
    for t, again in zip(tensors, pairs, strict=True):
        assert (t.shape, t.actual.tobytes(), t.wide_sigma.tobytes()) == (
            again.shape,
            again.actual.tobytes(),
            again.wide_sigma.tobytes(),
        )
    first = pairs.keys[0].quantity
    assert pairs.of_quantities(first).actual.tobytes() == pairs.actual[pairs.place(first)].tobytes()
    assert pairs.actual[pairs.place("v")].size == len(pairs.of_quantities("v").keys) == 0


def test_one_other_bit_is_another_answer():
    sides = [1.0, 3.0], [0.5, 0.5]
    t = tensor("grad", "wte", [0.0, 2.0], *sides)
    assert same_bits(t, t)
    assert not same_bits(t, tensor("grad", "wte", [-0.0, 2.0], *sides))
    assert not same_bits(t, tensor("grad", "wpe", [0.0, 2.0], *sides))


def test_largest_difference_of_several_steps_is_kept():
    judge, result = Judge(FORMATS["float64"], LIMIT, 1e-9), ModeResult("lock-step")
    for step, actual in enumerate((1.5, math.nan, 3.0)):
        result.add(tensor("grad", "wte", [actual], [1.0], [1.0], step=step), judge)
    row = result.quantities["grad"]
    assert (row.compared, row.outside, row.undecided) == (3, 1, 0)
    assert (row.largest_z.step, row.largest_error.step, row.largest_ulps.step) == (1, 1, 1)
    assert result.first_divergence.step == 1


def test_wrong_answers_are_named_by_their_bits():
    assert wrong_answers(0) == []
    assert wrong_answers(0b1001) == ["shuffled", "zeros"]
