"""Fingerprints: what head and base answered, in so few numbers that they can be stored, reviewed and recognised.

Bits differ from machine to machine, so a hash of them would know a change only where it was accepted. Sums with random
signs move by no more than rounding does, and by about the length of any other change: the mean square of such sums of
a vector is its squared length (Johnson and Lindenstrauss).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.judging.pairs import Pairs

SUMS = 4
"""For each quantity of each question. That all of them miss a change there that is ten times what rounding may do has a
probability of 2e-4, a hundred times of 2e-8; and hardly any change is one of a single quantity in a single question."""
_OWN_ROUNDING = 2.0**-49
"""Of a sum, relative to it: some hundred tensors are added up, each rounded once."""
Sums = dict[str, list[float]]
"""By quantity."""


@dataclass
class Fingerprint:
    """Both sides' answers in one case, in all modes, summed with random signs, quantity by quantity."""

    base: Sums = field(default_factory=dict)
    head: Sums = field(default_factory=dict)
    room: dict[str, float] = field(default_factory=dict)
    """By quantity, how far rounding may move a sum."""

    def add(self, pairs: Pairs, reference: Pairs, limit: float, mode: int = 0) -> None:
        """Take in a step. pairs: actual is head, expected is base, sigma the floor of both. mode: a number for it.

        reference: head and the reference, in all that head exposes; what base does not expose, it is taken to have as
        the reference has it, so that nothing of head goes in unseen. Every tensor counts alike, in units of what the
        reference has there, to a power of two, so that these are the same on every machine.
        """
        shared = pairs.by_key()
        for number, (key, expected) in enumerate(reference.by_key().items()):
            tensor = shared.get(key, expected)
            count = tensor.actual.size
            unit = _power_of_two(expected.expected)
            signs = _signs([mode, pairs.step, number], count)
            for sums, side in ((self.head, tensor.actual), (self.base, tensor.expected)):
                so_far = sums.setdefault(key.quantity, [0.0] * SUMS)
                sums[key.quantity] = [_sum([total, *row.tolist()]) for total, row in zip(so_far, signs * (side / unit))]
            floor = float(np.linalg.norm(tensor.sigma[np.isfinite(tensor.sigma)])) / unit
            floor *= 1.0 if key in shared else math.sqrt(2)  # of the reference's one side
            self.room[key.quantity] = math.hypot(self.room.get(key.quantity, 0.0), limit * floor)

    def is_base(self, sums: Mapping[str, Iterable[float]]) -> bool:
        """Whether base answered so, but for rounding."""
        return self._is(self.base, sums)

    def is_head(self, sums: Mapping[str, Iterable[float]]) -> bool:
        """Whether head answered so, but for rounding."""
        return self._is(self.head, sums)

    def other_at_head(self, sums: Mapping[str, Iterable[float]]) -> dict[str, float]:
        """The quantities in which head answered otherwise, and how many times as far off as rounding may be."""
        return {
            name: _distance(self.head[name], sums[name]) / room if room else math.inf
            for name, room in self.room.items()
            if name in sums and not self._near(self.head, sums, name)
        }

    @property
    def tells_head_from_base(self) -> bool:
        """Whether their difference, in some quantity, is ten times what rounding may do."""
        return any(_distance(self.head[name], self.base[name]) > 10 * room for name, room in self.room.items())

    @property
    def is_finite(self) -> bool:
        """Whether all answers were numbers, so that it can be recognised."""
        return all(math.isfinite(total) for side in (self.base, self.head) for row in side.values() for total in row)

    def _is(self, own: Sums, sums: Mapping[str, Iterable[float]]) -> bool:
        return own.keys() == sums.keys() and all(self._near(own, sums, name) for name in self.room)

    def _near(self, own: Sums, sums: Mapping[str, Iterable[float]], name: str) -> bool:
        return _distance(own[name], sums[name]) <= self.room[name] + _OWN_ROUNDING * max(map(abs, own[name]))


def _sum(numbers: list[float]) -> float:
    """The sum, rounded once; infinities of either sign make it NaN."""
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.nan


def _distance(actual: Iterable[float], expected: Iterable[float]) -> float:
    """The root of the mean square; NaN where one side is."""
    return math.sqrt(sum((a - e) ** 2 for a, e in zip(actual, expected, strict=True)) / SUMS)


def _power_of_two(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    size = float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
    return 2.0 ** math.floor(math.log2(size)) if 0 < size < math.inf else 1.0


def _signs(seed: list[int], count: int) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Random signs, (SUMS, count): the bits of PCG64, whose stream stays what it is from version to version."""
    bits = np.random.PCG64(seed).random_raw(count)
    return 1 - 2 * ((bits >> np.arange(SUMS, dtype=np.uint64)[:, None]) & np.uint64(1)).astype(np.int64)
