"""Error, z and distance in ulps of every element, and what the comparison of a step found, compiled.

`_error_of` and `_z_of` are the only places where an element's error and z are computed.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from parity.machine_code import compiled, inlined
from parity.ulps import ulps_of

WRONG_ANSWERS = ("zeros", "negated", "reversed", "shuffled")
"""What a check must be able to refuse, tensor by tensor; one that never does is vacuous."""

Z, ERROR, ULPS = range(3)
"""What the places and sizes of `Measures` are of, in this order."""

_ACCEPTED, _REFUSED, _NOT_WRONG = range(3)
"""What becomes of a wrong answer; _NOT_WRONG where it is none, since it equals what is expected."""


class Measures(NamedTuple):
    """What `measure` finds, as lists with an entry for each group, a run of tensors of one quantity, or each tensor."""

    elements: list[int]
    """Of a group: how many there are."""
    zero_in_both: list[int]
    """Elements of a group that are 0 on both sides."""
    exact: list[int]
    """Elements of a group with a noise floor of 0."""
    undecided: list[int]
    """Elements of a group that differ without a finite noise floor."""
    outside: list[int]
    """Elements of a group with a z above the limit."""
    unequal: list[int]
    """Elements of a group that have other bits."""
    first_outside: list[int]
    """Of a group: the place of its first element outside, or -1."""
    places: list[list[int]]
    """Of a group: where z, error and distance in ulps are largest."""
    sizes: list[list[float]]
    """Of a group: how large they are there; NaN is infinite, and a z that is NaN is -1."""
    medians: list[float]
    """Of a tensor: the median of the smallest relative errors that would be caught; NaN where all expected is 0."""
    worst: list[float]
    """Of a tensor: the largest of them."""
    accepted: list[int]
    """Of a tensor: a bit for each of WRONG_ANSWERS that would have passed."""
    refused: list[int]
    """Of a tensor: a bit for each of them that would not."""


@inlined
def _error_of(actual: float, expected: float) -> float:
    """|actual - expected|; 0 where both are the same infinity, NaN where either side is NaN."""
    return 0.0 if actual == expected else abs(actual - expected)


@inlined
def _z_of(error: float, sigma: float) -> float:
    """The error over the noise floor; where that is 0, 0 for equality and infinite otherwise, as for NaN."""
    if error == 0:
        return 0.0
    if math.isnan(error) or sigma == 0:
        return math.inf
    return error / sigma if math.isfinite(sigma) else math.nan


@compiled
def element(actual: float, expected: float, sigma: float, digits: int, lowest: int) -> Any:
    """Error, distance in ulps and z of one element."""
    error = _error_of(actual, expected)
    sides = np.array([actual, expected])
    bits = sides.view(np.int64)
    return error, ulps_of(actual, expected, bits[0], bits[1], digits, lowest), _z_of(error, sigma)


@compiled
def errors_of(actual: Any, expected: Any) -> Any:
    """`_error_of` for all elements of two vectors."""
    errors = np.empty(len(actual))
    for i in range(len(actual)):
        errors[i] = _error_of(actual[i], expected[i])
    return errors


@compiled
def z_values(actual: Any, expected: Any, sigma: Any) -> Any:
    """`_z_of` for all elements of two vectors and their noise floor."""
    z = np.empty(len(actual))
    for i in range(len(actual)):
        z[i] = _z_of(_error_of(actual[i], expected[i]), sigma[i])
    return z


@compiled
def count_outside(actual: Any, expected: Any, sigma: Any, limit: float) -> int:
    """How many elements of two vectors rounding does not explain."""
    count = 0
    for i in range(len(actual)):
        count += _z_of(_error_of(actual[i], expected[i]), sigma[i]) > limit
    return count


@inlined
def _wrong_answer(which: int, expected: Any, order: Any, i: int) -> Any:
    """Element i of one of WRONG_ANSWERS."""
    if which == 0:
        return 0.0
    if which == 1:
        return -expected[i]
    return expected[len(expected) - 1 - i] if which == 2 else expected[order[i]]


@inlined
def _fate(which: int, expected: Any, sigma: Any, order: Any, limit: float) -> int:
    """What becomes of one of WRONG_ANSWERS for a tensor."""
    refused, right, nothing = False, which >= 2, True
    for i in range(len(expected)):
        answer = _wrong_answer(which, expected, order, i)
        refused |= not _z_of(_error_of(answer, expected[i]), sigma[i]) <= limit
        right &= answer == expected[i]
        nothing &= expected[i] == 0
        if refused and not right:
            return _REFUSED
    # Nothing but zeros in another order is the answer of one who computes nothing.
    return _NOT_WRONG if right and not nothing else _REFUSED if refused else _ACCEPTED


@compiled
def measure(
    actual: Any,
    expected: Any,
    sigma: Any,
    loose: Any,
    starts: Any,
    groups: Any,
    order: Any,
    limit: float,
    digits: int,
    lowest: int,
) -> Any:
    """The fields of `Measures`, its counts in one array, for the tensors between starts in these vectors.

    loose: the noise floor by which wrong answers are judged. groups: the first tensor of every group, and their
    number. order: a shuffled order of the elements of each tensor.
    """
    number = len(groups) - 1
    counts = np.zeros((6, number), dtype=np.int64)
    first_outside = np.full(number, -1)
    places, sizes = np.zeros((number, 3), dtype=np.int64), np.full((number, 3), -2.0)
    medians, worst = np.full(len(starts) - 1, math.nan), np.zeros(len(starts) - 1)
    fates = np.zeros((2, len(starts) - 1), dtype=np.int64)
    bits, expected_bits = actual.view(np.int64), expected.view(np.int64)
    visible = np.empty(len(actual))
    for g in range(number):
        for i in range(starts[groups[g]], starts[groups[g + 1]]):
            error = _error_of(actual[i], expected[i])
            z = _z_of(error, sigma[i])
            ulps = ulps_of(actual[i], expected[i], bits[i], expected_bits[i], digits, lowest)
            counts[0, g] += 1
            counts[1, g] += actual[i] == 0 and expected[i] == 0
            counts[2, g] += sigma[i] == 0
            counts[3, g] += math.isnan(z)
            counts[4, g] += z > limit
            counts[5, g] += bits[i] != expected_bits[i]
            if z > limit and first_outside[g] < 0:
                first_outside[g] = i
            for what, size in enumerate((-1.0 if math.isnan(z) else z, math.inf if math.isnan(error) else error, ulps)):
                if size > sizes[g, what]:
                    places[g, what], sizes[g, what] = i, size
    for t in range(len(starts) - 1):
        start, end = starts[t], starts[t + 1]
        seen = 0
        for i in range(start, end):
            if expected[i] != 0 and math.isfinite(loose[i]):
                visible[seen] = limit * loose[i] / abs(expected[i])
                worst[t] = max(worst[t], visible[seen])
                seen += 1
        if seen:
            medians[t] = np.median(visible[:seen])
        for which in range(4):
            what = _fate(which, expected[start:end], loose[start:end], order[start:end], limit)
            if what != _NOT_WRONG:
                fates[what, t] |= 1 << which
    return counts, first_outside, places, sizes, medians, worst, fates[_ACCEPTED], fates[_REFUSED]
