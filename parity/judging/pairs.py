"""Both sides of a step, element beside element, by quantity in the order in which a step computes them.

Comparison says what it found and never decides; NaN, infinities and shapes count as differences.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, groupby

import numpy as np
from numpy.typing import NDArray

from parity.judging.element_errors import element, errors_of, z_values
from parity.number_formats import Floats, Format
from parity.quantities import TensorKey
from parity.words import beside_limit, told_apart

Shape = tuple[int, ...]
Entry = tuple[TensorKey, Shape]


@dataclass(frozen=True)
class Difference:
    """One element on both sides: where it is, and how far apart. error and z may be infinite or NaN."""

    step: int
    key: TensorKey
    index: tuple[int, ...]
    actual: float
    expected: float
    error: float
    ulps: float
    z: float

    @property
    def quantity(self) -> str:
        """The quantity that it belongs to."""
        return self.key.quantity

    @property
    def tensor(self) -> str:
        """The tensor within its quantity, in words."""
        return self.key.tensor

    @property
    def where(self) -> str:
        """The tensor and the index in it, such as layer0.attn_wq[3,7]."""
        return self.key.element(self.index)

    @property
    def relative_error(self) -> float:
        """The error over what is expected; infinite where that is 0."""
        if not self.error:
            return 0.0
        return self.error / abs(self.expected) if self.expected else math.inf

    def beside(self, limit: float) -> str:
        """The same as a text, with z in as many digits as tell it from the limit."""
        return f"{self._text} z {beside_limit(self.z, limit)} (limit {limit:.1f})"

    def __str__(self) -> str:
        return f"{self._text} z {self.z:.2g}"

    @property
    def _text(self) -> str:
        actual, expected = told_apart(self.actual, self.expected)
        relative = f" relative error {self.relative_error:.2g}," if math.isfinite(self.relative_error) else ""
        return f"step {self.step}: {self.key.described(self.index)}: {actual}, expected {expected},{relative}"


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a step lie in one vector."""

    entries: tuple[Entry, ...]
    """Key and shape of each tensor."""
    starts: NDArray[np.int64]
    """Where each tensor begins, and the end of the last one."""
    groups: tuple[str, ...]
    """The quantities of runs of tensors."""
    first_tensors: tuple[int, ...]
    """The tensor with which each group begins, and the number of tensors."""
    shuffled: NDArray[np.int64]
    """The places of the elements of each tensor within it, in another order."""


@lru_cache(maxsize=1024)
def layout(entries: tuple[Entry, ...]) -> Layout:
    """The layout of tensors given by key and shape."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for _, shape in entries]
    groups = [(quantity, len(list(run))) for quantity, run in groupby(key.quantity for key, _ in entries)]
    return Layout(
        entries=entries,
        starts=np.array([0, *np.cumsum(sizes, dtype=np.int64)]),
        groups=tuple(quantity for quantity, _ in groups),
        first_tensors=(0, *accumulate(length for _, length in groups)),
        shuffled=_shuffled(sizes[0]) if len(sizes) == 1 else np.concatenate([_NOWHERE, *map(_shuffled, sizes)]),
    )


_NOWHERE = np.zeros(0, dtype=np.int64)


@lru_cache(maxsize=64)
def _shuffled(size: int) -> NDArray[np.int64]:
    """So many places in another order."""
    return np.random.default_rng(size).permutation(size)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Tensors of one step on both sides, one after another in vectors, and the noise floor of their elements."""

    step: int
    layout: Layout
    actual: Floats
    expected: Floats
    sigma: Floats
    wide_sigma: Floats
    """The noise floor before it was narrowed, where it was, to that of an update alone."""

    @classmethod
    def of(
        cls,
        step: int,
        entries: Sequence[Entry],
        actual: Sequence[Floats],
        expected: Sequence[Floats],
        sigma: Sequence[Floats],
    ) -> "Pairs":
        """The pairs of these tensors; of arrays that hold several of them, one after another, one will do."""
        floor = _joined(sigma)
        return cls(step, layout(tuple(entries)), _joined(actual), _joined(expected), floor, floor)

    @property
    def keys(self) -> list[TensorKey]:
        """Of all tensors, in their order."""
        return [key for key, _ in self.layout.entries]

    @property
    def exposed(self) -> frozenset[tuple[str, str]]:
        """The quantities and the names of their tensors."""
        return frozenset((key.quantity, key.name) for key, _ in self.layout.entries)

    @property
    def shape(self) -> Shape:
        """Of the only tensor."""
        ((_, shape),) = self.layout.entries
        return shape

    @cached_property
    def error(self) -> Floats:
        """|actual - expected|; 0 where both are the same infinity, NaN where either side is NaN."""
        return np.asarray(errors_of(self.actual, self.expected))

    @cached_property
    def z(self) -> Floats:
        """The error over the noise floor; where that is 0, 0 for equality and infinite otherwise, as for NaN.

        NaN where there is a difference but no finite noise floor to judge it by.
        """
        return np.asarray(z_values(self.actual, self.expected, self.sigma))

    @property
    def largest_z(self) -> float:
        """The largest z; infinite where one is NaN."""
        return float(np.where(np.isnan(self.z), np.inf, self.z).max(initial=0.0))

    def __iter__(self) -> Iterator["Pairs"]:
        """Each tensor alone."""
        for number in range(len(self.layout.entries)):
            yield self._between(number, number + 1)

    def by_key(self) -> dict[TensorKey, "Pairs"]:
        """Each tensor alone, by its key."""
        return dict(zip(self.keys, self, strict=True))

    def place(self, quantity: str) -> slice:
        """Where the elements of a quantity lie; nowhere if there are none."""
        if quantity not in self.layout.groups:
            return slice(0, 0)
        group = self.layout.groups.index(quantity)
        first, last = self.layout.first_tensors[group : group + 2]
        return slice(self.layout.starts[first], self.layout.starts[last])

    def names(self, quantity: str) -> tuple[str, ...]:
        """Of the tensors of a quantity, in their order."""
        return tuple(key.name for key in self.keys if key.quantity == quantity)

    def only(self, keys: Collection[TensorKey]) -> "Pairs":
        """The tensors with these keys, in their order here."""
        chosen = (number for number, key in enumerate(self.keys) if key in keys)
        return joined(self.step, [self._between(number, number + 1) for number in chosen])

    def of_quantities(self, *quantities: str) -> "Pairs":
        """The tensors of these quantities."""
        return self.only({key for key in self.keys if key.quantity in quantities})

    def with_sides(
        self,
        *,
        actual: Floats | None = None,
        expected: Floats | None = None,
        sigma: Floats | None = None,
        wide_sigma: Floats | None = None,
    ) -> "Pairs":
        """The same tensors with other vectors in place of some. sigma: also for the wide one, unless that is given."""
        floor = self.sigma if sigma is None else sigma
        wide = wide_sigma if wide_sigma is not None else self.wide_sigma if sigma is None else sigma
        return Pairs(
            self.step,
            self.layout,
            self.actual if actual is None else actual,
            self.expected if expected is None else expected,
            floor,
            wide,
        )

    def at(self, place: int, form: Format) -> Difference:
        """The element at a place in the vectors."""
        number = int(self.layout.starts.searchsorted(place, side="right")) - 1
        key, shape = self.layout.entries[number]
        index = tuple(map(int, np.unravel_index(place - int(self.layout.starts[number]), shape)))
        sides = float(self.actual[place]), float(self.expected[place])
        return Difference(
            self.step, key, index, *sides, *element(*sides, float(self.sigma[place]), form.digits, form.lowest)
        )

    def _between(self, first: int, last: int) -> "Pairs":
        """The tensors from one to before another."""
        place = slice(self.layout.starts[first], self.layout.starts[last])
        vectors = (vector[place] for vector in (self.actual, self.expected, self.sigma, self.wide_sigma))
        return Pairs(self.step, layout(self.layout.entries[first:last]), *vectors)


def joined(step: int, parts: Sequence[Pairs]) -> Pairs:
    """The tensors of all parts, one after another."""
    vectors = (
        _joined([getattr(part, side) for part in parts]) for side in ("actual", "expected", "sigma", "wide_sigma")
    )
    return Pairs(step, layout(tuple(entry for part in parts for entry in part.layout.entries)), *vectors)


def same_bits(pairs: Pairs, others: Pairs) -> bool:
    """Whether a subject answered the same tensors with the same bits."""
    return pairs.layout.entries == others.layout.entries and pairs.actual.tobytes() == others.actual.tobytes()


def _joined(arrays: Sequence[Floats]) -> Floats:
    """All elements in one vector."""
    return np.concatenate([np.zeros(0), *arrays], axis=None)
