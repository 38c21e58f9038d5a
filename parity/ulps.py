"""Distances in units in the last place (ULP) of a number format, compiled.

digits and lowest are those of `parity.number_formats.Format`.
"""

import math
from typing import Any

import numpy as np

from parity.machine_code import compiled, inlined


@inlined
def _ordinal(x: float, bits: int, digits: int, lowest: int) -> Any:
    """How many numbers of a format lie between 0 and |x|, once rounded to it; bits: those of x, as an int64."""
    magnitude = bits & 0x7FFFFFFFFFFFFFFF
    if digits == 53:
        return magnitude
    if (magnitude >> 52) - 1022 < lowest:  # subnormal in the format
        return np.int64(np.rint(math.ldexp(abs(x), digits - lowest)))
    shift = 53 - digits
    # Ties go to the even neighbour; a carry goes into the exponent, as it should.
    rounded = (magnitude + (1 << (shift - 1)) - 1 + ((magnitude >> shift) & 1)) >> shift
    return rounded - ((1021 + lowest) << (digits - 1))


@inlined
def ulps_of(actual: float, expected: float, bits: int, expected_bits: int, digits: int, lowest: int) -> float:
    """How many numbers of a format lie between two numbers, once rounded to it; infinite if only one is finite."""
    if not (math.isfinite(actual) and math.isfinite(expected)):
        return 0.0 if actual == expected else math.inf
    a, b = _ordinal(actual, bits, digits, lowest), _ordinal(expected, expected_bits, digits, lowest)
    return float(abs(a - b)) if (bits < 0) == (expected_bits < 0) else float(np.uint64(a) + np.uint64(b))


@compiled
def ulp_distances(actual: Any, expected: Any, digits: int, lowest: int) -> Any:
    """`ulps_of` for all elements of two vectors."""
    distances = np.empty(len(actual))
    bits, expected_bits = actual.view(np.int64), expected.view(np.int64)
    for i in range(len(actual)):
        distances[i] = ulps_of(actual[i], expected[i], bits[i], expected_bits[i], digits, lowest)
    return distances
