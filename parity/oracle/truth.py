"""Truth: a certified enclosure of what the reference's formulas give in real numbers.

The reference runs, unchanged, on balls: python-flint's `arb`, a midpoint and a radius that together contain the
exact value (Johansson 2017, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic"). Constants
that the reference computes in floats, such as 1/n and 1 - beta1, are taken as those floats. A ReLU whose input may
have either sign at a precision is tried again at a higher one.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np

from parity.errors import NoExpectation
from parity.number_formats import Floats, Format
from parity.oracle.rounding import Rounding
from parity.trees import is_row, mapped
from reference import microgpt
from reference.config import Config, Hyper, State, Step

_PRECISIONS = (128, 256, 512, 1024, 2048)
"""Bits of the midpoints, tried in this order."""

_NARROW = 2.0**-10
"""An enclosure is narrow enough when its radius is at most this part of the noise floor."""

NOISY_RUNS = 16
"""Runs with noise from which a noise floor is taken where floats cannot give one."""


class _AmbiguousKink(ArithmeticError):
    """A ReLU's input is known to be near zero, but not on which side, at this precision."""


class Ball:
    """A real number that is not known exactly, as data of a Value."""

    __slots__ = ("arb",)

    def __init__(self, value: Any) -> None:
        self.arb = value if isinstance(value, flint.arb) else flint.arb(value)

    def _new(self, value: Any) -> "Ball":
        return Ball(value)

    def __add__(self, other: Any) -> "Ball":
        return self._new(self.arb + _arb(other))

    def __sub__(self, other: Any) -> "Ball":
        return self._new(self.arb - _arb(other))

    def __rsub__(self, other: Any) -> "Ball":
        return self._new(_arb(other) - self.arb)

    def __mul__(self, other: Any) -> "Ball":
        return self._new(self.arb * _arb(other))

    def __truediv__(self, other: Any) -> "Ball":
        return self._new(self.arb / _arb(other))

    def __rtruediv__(self, other: Any) -> "Ball":
        return self._new(_arb(other) / self.arb)

    def __pow__(self, exponent: float) -> "Ball":
        return self._new(_power(self.arb, exponent))

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> "Ball":
        return Ball(-self.arb)

    def exp(self) -> "Ball":
        """The exponential."""
        return self._new(self.arb.exp())

    def log(self) -> "Ball":
        """The natural logarithm."""
        return self._new(self.arb.log())

    def __gt__(self, other: Any) -> bool:
        if isinstance(other, Ball):
            # Only softmax compares two: any of the logits will do as its shift.
            return bool(self.arb.mid() > other.arb.mid())
        if self.arb.contains(other) and self.arb.rad() > 0:
            raise _AmbiguousKink(f"a number within {self.arb.rad()} of {other}")
        return bool(self.arb > other)


def _arb(value: Any) -> Any:
    return value.arb if isinstance(value, Ball) else value


def _power(x: Any, exponent: float) -> Any:
    whole, half = divmod(2 * exponent, 2)
    if half not in (0, 1):
        return x ** flint.arb(exponent)
    power = flint.arb(1)
    for _ in range(abs(int(whole))):
        power = power * x
    return (1 / power if whole < 0 else power) * (_root(x) if half else 1)


def _root(x: Any) -> Any:
    if not x.contains(0):
        return x.sqrt()
    top = x.abs_upper().sqrt()  # of a square whose ball reaches below zero
    return flint.arb(top / 2, top / 2)


class _NoisyBall(Ball):
    """A ball without radius that is moved by up to u, relative to it, at every operation."""

    __slots__ = ("rng", "u")

    def __init__(self, value: Any, u: float, rng: random.Random) -> None:
        super().__init__(value)
        self.u, self.rng = u, rng

    def _new(self, value: Any) -> "Ball":
        return _NoisyBall(value.mid() * (1 + self.u * self.rng.uniform(-1, 1)), self.u, self.rng)


@dataclass
class Enclosure:
    """The exact value of every element lies within radius of high + low."""

    high: Step
    """The nearest floats."""
    low: Step
    """What is missing from them, at most an ulp of each."""
    radius: Step


class Truth:
    """The reference on balls, from a given state."""

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.config, self.hyper = config, hyper

    def enclosure(self, state: State, batch: list[list[int]], sigma: Step | None) -> Enclosure:
        """One step in real numbers, narrow against the noise floor sigma.

        Raises NoExpectation where a ReLU stays ambiguous at the highest precision: its input is exactly zero.
        """
        for precision in _PRECISIONS:
            with flint.ctx.workprec(precision):
                try:
                    step = self._run(state, batch, Ball)
                except _AmbiguousKink:
                    continue
                enclosure = Enclosure(
                    _matrices(_float_middle, step),
                    _matrices(lambda x: _float_middle(x - _float_middle(x)), step),
                    _matrices(lambda x: float(x.rad()), step),
                )
            if sigma is None or _narrow(enclosure, sigma):
                return enclosure
        raise NoExpectation(
            f"The truth is ambiguous at step {state.step}: with {_PRECISIONS[-1]} bits a ReLU's input still cannot be "
            "told from zero, or an enclosure is wider than the noise floor."
        )

    def spread(self, state: State, batch: list[list[int]], form: Format, weight: float) -> Step:
        """The noise floor where floats overflow or underflow: NOISY_RUNS runs without bounds on the exponent.

        weight: a factor that makes up for there being fewer runs than usual.
        """
        rng, u = random.Random(0), Rounding.beside_truth(form).u

        def noisy(x: Any) -> _NoisyBall:
            return _NoisyBall(x, u, rng)

        with flint.ctx.workprec(_PRECISIONS[0]):
            runs = [_matrices(_float_middle, self._run(state, batch, noisy)) for _ in range(NOISY_RUNS)]
        sigma: Step = mapped(lambda *samples: weight * np.std(samples, axis=0, ddof=1), *runs)
        return sigma

    def _run(self, state: State, batch: list[list[int]], kind: Callable[[Any], Ball]) -> Step:
        params, m, v = (
            {name: [[kind(x) for x in row] for row in np.asarray(matrix).tolist()] for name, matrix in part.items()}
            for part in (state.params, state.m, state.v)
        )
        step: Step = microgpt.train_step(State(params, m, v, state.step), batch, self.config, self.hyper)[1]
        return step


def _float_middle(x: Any) -> float:
    """The float nearest to the middle of a ball."""
    return float(x.mid())


def _matrices(function: Callable[[Any], float], step: Step) -> Any:
    """A step of balls, number by number, as a step of arrays."""
    return mapped(lambda matrix: np.array(mapped(lambda x: function(_as_arb(x)), matrix)), step, leaf=_is_matrix)


def _is_matrix(tree: Any) -> bool:
    return isinstance(tree, list) and is_row(tree[0])


def _as_arb(x: Any) -> Any:
    return x.arb if isinstance(x, Ball) else flint.arb(x)


def _narrow(enclosure: Enclosure, sigma: Step) -> bool:
    """Whether every radius is small against the noise floor, where that is finite and not zero."""
    narrow = []

    def look(radius: Floats, floor: Any) -> None:
        telling = np.isfinite(floor) & (floor > 0)
        narrow.append(bool(np.all(radius[telling] <= _NARROW * np.asarray(floor)[telling])))

    mapped(look, enclosure.radius, sigma)
    return all(narrow)
