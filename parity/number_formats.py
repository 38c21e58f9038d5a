"""Number formats: unit roundoff, rounding, and distance in units in the last place (ULP)."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with gradual underflow."""

    name: str
    digits: int
    """Significant bits."""
    lowest: int
    """The exponent e of the smallest normal number, written as m·2^e with m in [1/2, 1)."""
    highest: int
    """The same of the largest number."""

    @property
    def u(self) -> float:
        """Unit roundoff: the largest relative error of rounding to nearest, away from underflow."""
        return float(2.0**-self.digits)

    @property
    def tiny(self) -> float:
        """The smallest positive number."""
        return float(2.0 ** (self.lowest - self.digits))

    def rounded(self, array: Any) -> Floats:
        """Every element rounded to the nearest number of the format, ties to even; infinite beyond the largest."""
        array = np.array(array, dtype=np.float64)
        if self.name == "float64":
            return cast("Floats", array)
        scaled, exponent = self._scaled(array)
        with np.errstate(over="ignore"):
            near = np.ldexp(scaled, exponent - self.digits)
        result: Floats = np.where(np.abs(near) >= 2.0**self.highest, np.copysign(np.inf, array), near)
        return result

    def ulp_distance(self, actual: Floats, expected: Floats) -> Floats:
        """How many numbers of the format lie between the elements of two arrays, once rounded to it.

        Zero for 0.0 and -0.0, infinite where one side is not finite and the other is not the same.
        """
        from parity.ulps import ulp_distances  # only where there is something to compare, since it needs numba

        sides = (np.ascontiguousarray(side, dtype=np.float64).ravel() for side in (actual, expected))
        distances: Floats = ulp_distances(*sides, self.digits, self.lowest).reshape(np.shape(actual))
        return distances

    def _scaled(self, array: Floats) -> tuple[Floats, NDArray[np.int32]]:
        """Integers and exponents: the array rounded to the format is integer · 2^(exponent - digits)."""
        exponent = np.maximum(np.where(array == 0, self.lowest, np.frexp(array)[1]), self.lowest)
        scaled = np.rint(np.ldexp(array, self.digits - exponent))
        # Rounded up to the next power of two: half as much with the next exponent.
        full = np.abs(scaled) == 2.0**self.digits
        return np.where(full, scaled / 2, scaled), exponent + full


FORMATS = {
    format.name: format
    for format in (
        Format("float64", 53, -1021, 1024),
        Format("float32", 24, -125, 128),
        Format("bfloat16", 8, -125, 128),
        Format("float16", 11, -13, 16),
    )
}
"""By name, in the order in which they are offered."""
