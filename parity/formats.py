"""Number formats: unit roundoff, rounding, and distance in units in the last place (ULP)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
"""Half the distance from 1 to the next larger number, by the name of the format."""


def rounded(matrix: Any, dtype: str) -> list[list[float]]:
    """A matrix with every element rounded to the nearest number of the format."""
    rows: list[list[float]] = np.asarray(matrix, dtype=np.float64).astype(dtype).astype(np.float64).tolist()
    return rows


def ulp_distance(actual: NDArray[np.float64], expected: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """How many numbers of the format lie between the elements of two arrays, after rounding both to it.

    The numbers of a format, read as sign and magnitude integers, are in the order of their values, so that the
    distance is a difference of integers; 0.0 and -0.0 are the same. Infinite where either side is NaN.
    """
    ordinals = []
    for array in (actual, expected):
        with np.errstate(over="ignore"):
            bits = array.astype(dtype).view(np.int64 if dtype == "float64" else np.int32).astype(np.int64)
        magnitude = bits & (2**63 - 1 if dtype == "float64" else 2**31 - 1)
        ordinals.append(np.where(bits < 0, -magnitude, magnitude))
    # In float64 the difference of two int64 would overflow; as floats it is right to 53 bits.
    near = np.abs(ordinals[0] - ordinals[1]).astype(np.float64)
    far = np.abs(ordinals[0].astype(np.float64) - ordinals[1].astype(np.float64))
    distance = np.where(far < 2.0**62, near, far)
    return np.where(np.isnan(actual) | np.isnan(expected), np.inf, distance)
