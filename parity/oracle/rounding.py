"""The rules of rounding: what it may do to a result of the reference, and to which it does nothing.

Every noisy run keeps to them: the replicas of `parity.oracle.noisy_replay`, compiled; the runs of a mutant
(`parity.catalogue.mutant_noise`), in NumPy; and those without bounds on the exponent (`parity.oracle.truth`).

A result r of an arithmetic operation moves by at most u·|r| + tiny, at random: any number within the rounding error may
be what another order of evaluation gives. tiny matters only where a format underflows; runs of mutants, on cases of
ordinary numbers, and those without bounds on the exponent do without it. What a comparison is made of is not moved
once more: gates and maxima are decided by the values as they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parity.machine_code import inlined
from parity.number_formats import FORMATS, Floats, Format


@dataclass(frozen=True)
class Rounding:
    """How far the arithmetic of a number format moves results."""

    u: float
    """The largest relative move of a tensor's element."""
    tiny: float
    """The largest move of a result that is next to nothing."""
    shared_u: float
    """The same as u for a scalar that all elements share, such as 1 - beta2: it is computed in float32 at least,
    whatever the format of the tensors."""
    shared_tiny: float
    """The same as tiny for such a scalar."""
    hypers_round: bool
    """Whether hyper-parameters are rounded when they are read: 0.01 is a number of no binary format. Float64 is how the
    reference itself has them, so that both sides start from the same."""

    @classmethod
    def of(cls, form: Format) -> "Rounding":
        """Of a subject beside the reference, which computes in float64.

        In float64 both sides round, so that noise is twice as strong; a move by less than half the distance to the next
        number would besides be rounded away again in the replay itself. Beside a narrower format's rounding that of the
        reference is nothing.
        """
        return cls._of(form, form.u * (2 if form.name == "float64" else 1))

    @classmethod
    def beside_truth(cls, form: Format) -> "Rounding":
        """Of a subject beside the truth, which does not round."""
        return cls._of(form, form.u)

    @classmethod
    def in_exact_arithmetic(cls) -> "Rounding":
        """Of a program that was written for a shorter format and runs in float64, beside the reference.

        Rates, betas and what is made of them it may have been given in float32.
        """
        double, single = FORMATS["float64"], FORMATS["float32"]
        return cls(2 * double.u, double.tiny, single.u, single.tiny, hypers_round=True)

    @classmethod
    def _of(cls, form: Format, u: float) -> "Rounding":
        single = FORMATS["float32"]
        return cls(u, form.tiny, min(u, single.u), min(form.tiny, single.tiny), form.name != "float64")


def average_weight(beta: float, number: int, moved: Callable[[Floats], Floats]) -> Floats:
    """The weight of a moving average as noisy replicas have it, (number,); moved: adds noise to an array of results.

    beta·m + (1 - beta)·g is as often written m + (1 - beta)·(g - m), which gives beta the rounding error of 1 - beta:
    large for beta near 1. No weight leaves [0, 1]. A beta of 0 is exact, since 1 - 0 is.
    """
    if beta == 0:
        return np.zeros(number)
    return np.clip(1 - moved(np.full(number, 1 - beta)), 0, 1)


@inlined
def moved(r: float, xi: float, u: float, tiny: float) -> float:
    """A result moved by its rounding error times xi, of [-1, 1). Rounding never changes a sign: 0 is the end."""
    result = r + xi * (u * abs(r) + tiny)
    return result if (result > 0) == (r > 0) else 0.0


@inlined
def may_round(a: float, b: float) -> bool:
    """Whether a sum or a product of two numbers may be rounded: with a zero it is exact in any arithmetic."""
    return a != 0 and b != 0


@inlined
def factor_may_round(factor: float) -> bool:
    """Whether products with a factor may be rounded: those with a power of two are exact in any binary arithmetic."""
    return abs(math.frexp(factor)[0]) != 0.5
