"""Comparing two steps: every element of every quantity, in the order in which a step computes them.

Comparison returns what it found and never decides; NaN, infinities and shapes count as differences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from parity.case import names_difference
from parity.errors import SubjectError
from parity.formats import Floats, Format
from reference.config import Step

FIELDS = {
    "sites": "site",
    "logits": "logits",
    "loss": "loss",
    "site_grads": "site grad",
    "grads": "grad",
    "m": "m",
    "v": "v",
    "params": "param",
}
"""The fields of a Step and the quantities that they hold, in the order in which a step computes them."""

SITES = ("site", "site grad")
"""Quantities of which a subject may expose some tensors and not others."""


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
        return "logits" if self.quantity == "logits" else self.tensor.partition(" at ")[0]

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
        index = tuple(int(i) for i in np.unravel_index(flat_index, self.expected.shape))
        actual, expected = np.asarray(self.actual[index]), np.asarray(self.expected[index])
        return Difference(
            self.step,
            self.quantity,
            self.tensor,
            index,
            float(actual),
            float(expected),
            float(self.error[index]),
            float(form.ulp_distance(actual, expected)),
            float(self.z[index]),
        )


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


def paired(number: int, actual: Step, expected: Step, sigma: Step, lengths: Sequence[int]) -> Iterator[Tensors]:
    """The tensors of both steps side by side, in the order in which a step computes them.

    number: of the step. sigma: the noise floor, a Step like expected. lengths: positions of each document. What
    actual does not expose is left out. Raises SubjectError where names or shapes differ from the expected ones, or
    where something is not numbers.
    """
    for field, quantity in FIELDS.items():
        if getattr(actual, field, None) is None or getattr(expected, field) is None:
            continue
        expected_tensors = _tensors(field, getattr(expected, field), lengths)
        sigmas = _tensors(field, getattr(sigma, field), lengths)
        actual_tensors = _tensors(field, getattr(actual, field), lengths)
        unknown = actual_tensors.keys() - expected_tensors.keys()
        missing = expected_tensors.keys() - actual_tensors.keys()
        if unknown or (missing and quantity not in SITES):
            raise SubjectError(f"The subject's {field} {names_difference(actual_tensors, expected_tensors)}.")
        for name, value in expected_tensors.items():
            if name in missing:
                continue
            expected_array = as_array(value, f"The reference's {field}, {name},")
            actual_array = as_array(actual_tensors[name], f"The subject's {field}, {name},")
            if actual_array.shape != expected_array.shape:
                raise SubjectError(
                    f"The subject's {field}, {name}, have the shape {actual_array.shape}, "
                    f"expected {expected_array.shape}."
                )
            yield Tensors(number, quantity, name, actual_array, expected_array, np.asarray(sigmas[name]))


def _tensors(field: str, value: Any, lengths: Sequence[int]) -> dict[str, Any]:
    """The tensors that a field of a Step holds, by name, in the order in which a step computes them."""
    if field == "loss":
        return {"loss": value}
    if field == "logits":
        return {f"document {number}": matrix for number, matrix in enumerate(value)}
    if not isinstance(value, dict):
        raise SubjectError(f"The subject's {field} must be a dict from name to values, not {type(value).__name__}.")
    if field not in ("sites", "site_grads"):
        return value
    for site, entries in value.items():
        if len(entries) != sum(lengths):
            raise SubjectError(
                f"The subject's {field}, {site}, have {len(entries)} entries, expected one for each of the "
                f"{sum(lengths)} positions."
            )
    places = [(document, position) for document, n in enumerate(lengths) for position in range(n)]
    named = {
        f"{site} at document {document}, position {position}": value[site][i]
        for i, (document, position) in enumerate(places)
        for site in value
    }
    return named if field == "sites" else dict(reversed(named.items()))


def as_array(value: Any, what: str) -> Floats:
    """Nested lists, a NumPy array or a torch tensor in float64; SubjectError where it is not a block of numbers."""
    try:
        array = np.asarray(_detached(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise SubjectError(f"{what} cannot be read as numbers: {error}.") from None
    if array.dtype.kind not in "fiu":
        raise SubjectError(f"{what} are not numbers but {array.dtype}.")
    return array.astype(np.float64)


def _detached(value: Any) -> Any:
    """Without torch tensors, wherever they are nested; bfloat16 is not known to NumPy, float64 holds it exactly."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor if tensor.is_complex() else tensor.double()).numpy()
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float)):
        return [_detached(entry) for entry in value]
    return value
