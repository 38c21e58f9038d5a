"""Comparing two steps: every element of every quantity, in the order in which a step computes them.

Comparison returns what it found and never decides; NaN, infinities and shapes count as differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, groupby
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from parity.answers import numbers, tensors_of, together
from parity.case import names_difference
from parity.errors import SubjectError
from parity.number_formats import Floats, Format
from parity.quantities import FIELDS, SITES
from parity.tensors import TensorViews, places
from reference.config import Config, Step


@dataclass(frozen=True)
class Difference:
    """One element on both sides: where it is, and how far apart. error and z may be infinite or NaN."""

    step: int
    quantity: str
    tensor: str
    index: tuple[int, ...]
    actual: float
    expected: float
    error: float
    ulps: float
    z: float

    @property
    def key(self) -> tuple[int, str, str]:
        """Step, quantity and tensor."""
        return self.step, self.quantity, self.tensor

    @property
    def where(self) -> str:
        """The tensor and the index in it, such as layer0.attn_wq[3,7]."""
        index = f"[{','.join(map(str, self.index))}]" if self.index else ""
        tensor, at, place = self.tensor.partition(" at ")
        return f"{tensor}{index}{at}{place}"

    def __str__(self) -> str:
        what = self.where if self.quantity == "loss" else f"{self.quantity} {self.where}"
        return f"step {self.step}: {what}: {self.actual:.17g}, expected {self.expected:.17g}, z {self.z:.2g}"


@dataclass(frozen=True)
class Tensors:
    """One tensor of one quantity on both sides, and the noise floor of its elements."""

    step: int
    quantity: str
    tensor: str
    actual: Floats
    expected: Floats
    sigma: Floats
    loose: Floats | None = None
    """The noise floor before it was narrowed to that of an update alone."""

    @property
    def key(self) -> tuple[int, str, str]:
        """Step, quantity and tensor."""
        return self.step, self.quantity, self.tensor

    @property
    def kind(self) -> str:
        """The tensor without its place in the batch: logits, a site or a matrix."""
        return kind_of(self.quantity, self.tensor)

    @cached_property
    def error(self) -> Floats:
        """|actual - expected|; 0 where both are the same infinity, NaN where either side is NaN."""
        return distance(self.actual, self.expected)

    @cached_property
    def z(self) -> Floats:
        """The error over the noise floor; where that is 0, 0 for equality and infinite otherwise, as for NaN.

        NaN where there is a difference but no finite noise floor to judge it by.
        """
        return over_floor(self.error, self.sigma)

    def at(self, flat_index: int, form: Format) -> Difference:
        """The element at a flat index."""
        index = tuple(map(int, np.unravel_index(flat_index, self.expected.shape)))
        where = (self.step, self.quantity, self.tensor, index)
        return difference(where, self.actual[index], self.expected[index], self.sigma[index], form)


def difference(
    where: tuple[int, str, str, tuple[int, ...]], actual: Any, expected: Any, sigma: Any, form: Format
) -> Difference:
    """One element: its step, quantity, tensor and index, and how far apart both sides are."""
    from parity.judging.element_errors import element

    sides = float(actual), float(expected)
    return Difference(*where, *sides, *element(*sides, float(sigma), form.digits, form.lowest))


def kind_of(quantity: str, tensor: str) -> str:
    """See `Tensors.kind`."""
    return "logits" if quantity == "logits" else tensor.partition(" at ")[0]


def distance(actual: Floats, expected: Floats) -> Floats:
    """|actual - expected|; 0 where both are the same infinity, NaN where either side is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(actual == expected, 0.0, np.abs(actual - expected))


def over_floor(error: Floats, sigma: Floats) -> Floats:
    """See `Tensors.z`."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = np.where(np.isfinite(sigma), error / sigma, np.nan)
    z = np.where(np.isnan(error) | ((sigma == 0) & (error != 0)), np.inf, z)
    return np.where(error == 0, 0.0, z)


Entry = tuple[str, str, tuple[int, ...]]
"""Quantity, name and shape of a tensor."""


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a step lie in one vector.

    entries: quantity, tensor and shape of each. starts: where each begins, and the end. groups: the quantities of runs
    of tensors; first_tensors: with which each begins, and the number of tensors. shuffled: the places of the elements
    of each tensor in it, in another order.
    """

    entries: tuple[Entry, ...]
    starts: NDArray[np.int64]
    groups: tuple[str, ...]
    first_tensors: tuple[int, ...]
    shuffled: NDArray[np.int64]
    kinds: tuple[str, ...]


@lru_cache(maxsize=128)
def layout(entries: tuple[Entry, ...]) -> Layout:
    """The layout of tensors given by quantity, name and shape."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for _, _, shape in entries]
    groups = [(quantity, len(list(run))) for quantity, run in groupby(quantity for quantity, _, _ in entries)]
    orders = [np.random.default_rng(size).permutation(size) for size in sizes]
    return Layout(
        entries=entries,
        starts=np.array([0, *np.cumsum(sizes, dtype=np.int64)]),
        groups=tuple(quantity for quantity, _ in groups),
        first_tensors=(0, *accumulate(length for _, length in groups)),
        shuffled=np.concatenate([np.zeros(0, dtype=np.int64), *orders]),
        kinds=tuple(kind_of(quantity, tensor) for quantity, tensor, _ in entries),
    )


class Pairs(Sequence[Tensors]):
    """The tensors of one step on both sides, which lie one after another in vectors."""

    def __init__(
        self,
        step: int,
        layout: Layout,
        actual: Floats,
        expected: Floats,
        sigma: Floats,
        loose: Floats | None = None,
    ) -> None:
        self.step, self.layout = step, layout
        self.actual, self.expected, self.sigma = actual, expected, sigma
        self.loose = sigma if loose is None else loose
        self._tensors: list[Tensors | None] = [None] * len(layout.entries)

    @classmethod
    def of(cls, tensors: Sequence[Tensors]) -> "Pairs":
        """Some tensors of one step."""
        if isinstance(tensors, cls):
            return tensors
        entries = tuple((t.quantity, t.tensor, t.expected.shape) for t in tensors)
        actual, expected, sigma, loose = (
            joined(arrays)
            for arrays in (
                [t.actual for t in tensors],
                [t.expected for t in tensors],
                [t.sigma for t in tensors],
                [t.sigma if t.loose is None else t.loose for t in tensors],
            )
        )
        pairs = cls(tensors[0].step if tensors else 0, layout(entries), actual, expected, sigma, loose)
        pairs._tensors = list(tensors)
        return pairs

    def __len__(self) -> int:
        return len(self._tensors)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensors]: ...

    def __getitem__(self, index: int | slice) -> Tensors | list[Tensors]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        known = self._tensors[index]
        if known is None:
            index %= len(self)
            quantity, tensor, shape = self.layout.entries[index]
            place = slice(self.layout.starts[index], self.layout.starts[index + 1])
            sides = (side[place].reshape(shape) for side in (self.actual, self.expected, self.sigma))
            self._tensors[index] = known = Tensors(self.step, quantity, tensor, *sides)
        return known

    def place(self, quantity: str) -> slice:
        """Where the elements of a quantity lie."""
        group = self.layout.groups.index(quantity)
        first, last = self.layout.first_tensors[group : group + 2]
        return slice(self.layout.starts[first], self.layout.starts[last])

    def at(self, place: int, form: Format) -> Difference:
        """The element at a place in the vectors."""
        number = int(self.layout.starts.searchsorted(place, side="right")) - 1
        quantity, tensor, shape = self.layout.entries[number]
        index = np.unravel_index(place - int(self.layout.starts[number]), shape)
        where = (self.step, quantity, tensor, tuple(map(int, index)))
        return difference(where, self.actual[place], self.expected[place], self.sigma[place], form)

    @property
    def exposed(self) -> frozenset[tuple[str, str]]:
        """The quantities and the kinds of their tensors."""
        return frozenset(zip((quantity for quantity, _, _ in self.layout.entries), self.layout.kinds, strict=True))


def same_bits(pairs: Sequence[Tensors], others: Sequence[Tensors]) -> bool:
    """Whether a subject answered the same tensors with the same bits."""
    left, right = Pairs.of(pairs), Pairs.of(others)
    return left.layout.entries == right.layout.entries and left.actual.tobytes() == right.actual.tobytes()


def joined(arrays: Sequence[Floats]) -> Floats:
    """All elements in one vector."""
    return np.concatenate([np.zeros(0), *arrays], axis=None)


def paired(number: int, actual: Step, expected: Step, sigma: Step, lengths: Sequence[int]) -> Pairs:
    """The tensors of both steps side by side, in the order in which a step computes them.

    number: of the step. sigma: the noise floor, a Step like expected. lengths: positions of each document. What
    actual does not expose is left out. Raises SubjectError where names or shapes differ from the expected ones, or
    where something is not numbers.
    """
    entries: list[Entry] = []
    sides: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for field, quantity in FIELDS.items():
        if getattr(actual, field, None) is None or getattr(expected, field) is None:
            continue
        expected_tensors = tensors_of(field, getattr(expected, field), lengths)
        sigmas = tensors_of(field, getattr(sigma, field), lengths)
        actual_tensors = tensors_of(field, getattr(actual, field), lengths)
        if actual_tensors.keys() != expected_tensors.keys():
            if quantity not in SITES or actual_tensors.keys() - expected_tensors.keys():
                raise SubjectError(f"The subject's {field} {names_difference(actual_tensors, expected_tensors)}.")
            expected_tensors = {name: expected_tensors[name] for name in expected_tensors if name in actual_tensors}
        if isinstance(expected_tensors, TensorViews) and isinstance(sigmas, TensorViews):
            new = _entries(quantity, expected_tensors.config)
            sides[1].append(expected_tensors.vector)
            sides[2].append(sigmas.vector)
        else:
            arrays = [numbers(value, "reference", field, name) for name, value in expected_tensors.items()]
            new = tuple((quantity, name, array.shape) for name, array in zip(expected_tensors, arrays, strict=True))
            sides[1].extend(arrays)
            sides[2].extend(np.asarray(sigmas[name]) for name in expected_tensors)
        sides[0].extend(_answered(actual_tensors, field, new))
        entries.extend(new)
    return Pairs(number, layout(tuple(entries)), *map(joined, sides))


def _answered(tensors: dict[str, Any], field: str, entries: Sequence[Entry]) -> list[Floats]:
    """The subject's numbers, as they lie in the expected tensors one after another."""
    vector = together([tensors[name] for _, name, _ in entries], [shape for _, _, shape in entries])
    if vector is not None:
        return [vector]
    arrays = []
    for _, name, shape in entries:
        arrays.append(numbers(tensors[name], "subject", field, name))
        if arrays[-1].shape != shape:
            actual = arrays[-1].shape
            raise SubjectError(f"The subject's {field}, {name}, have the shape {actual}, expected {shape}.")
    return arrays


@lru_cache(maxsize=1024)
def _entries(quantity: str, config: Config) -> tuple[Entry, ...]:
    return tuple((quantity, name, shape) for name, _, _, shape in places(config))
