"""What a step gave beside what is expected of it: by quantity, and where the first difference begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from parity.judging.element_errors import Measures
from parity.judging.judge import Judge
from parity.judging.mode_result import ModeResult
from parity.judging.moderation import FREEDOM, moderated
from parity.judging.pairs import Pairs, layout
from parity.judging.quantity_result import QuantityResult
from parity.number_formats import FORMATS, Floats, Format
from parity.quantities import TensorKey
from parity.training.observation import Observed
from parity.verdict import limit

FORWARD = ("site", "output", "loss")
BACKWARD = ("site grad", "grad")


def order(key: TensorKey) -> int:
    """Where a quantity stands in a step: forward, then backward from the loss, then the update."""
    names = (*FORWARD, *BACKWARD)
    return names.index(key.quantity) if key.quantity in names else len(names) + (key.quantity in ("param", "buffer"))


@dataclass(frozen=True)
class TrainingJudge(Judge):
    """The judge of a training's elements, whose floors are of so many replicas."""

    replicas: int = FREEDOM
    elements: int = 1
    """Of the whole check."""

    @classmethod
    def of_replicas(cls, elements: int, replicas: int, false_alarm: float) -> "TrainingJudge":
        """The judge of so many elements, over all of which the false-alarm rate is shared out."""
        freedom = max(replicas, FREEDOM)
        most = limit(false_alarm, elements, freedom + 1)
        return cls(FORMATS["float32"], most, false_alarm, replicas=replicas, elements=elements)


@dataclass
class Wrong:
    """A tensor of the step that diverged first: how much of it is outside, and by how much.

    scale: the factor by which all of it seems to be too large, where that explains most of the difference.
    """

    key: TensorKey
    module: str
    """The kind of module, of a site."""
    outside: int
    elements: int
    relative_error: float
    scale: float | None = None

    def __str__(self) -> str:
        kind = f" ({self.module})" if self.module else ""
        scaled = f", {self.scale:.4g} times as large" if self.scale is not None else ""
        counts = f"{self.outside:,} of {self.elements:,} outside"
        return f"{self.key.described()}{kind}: {counts}, relative error {self.relative_error:.2g}{scaled}"


@dataclass
class TrainingMode(ModeResult):
    """What one mode found of a training. first_divergence is of the tensor that a step computes first."""

    wrong: list[Wrong] = field(default_factory=list)
    """The tensors that are outside in the step that diverged first, in the order of its computation."""
    right: int = 0
    """How many tensors of that step are inside."""

    @property
    def begins(self) -> Wrong | None:
        """The first tensor outside."""
        return self.wrong[0] if self.wrong else None

    def take(
        self,
        number: int,
        actual: Observed,
        expected: Mapping[TensorKey, Tensor],
        floor: Mapping[TensorKey, Tensor],
        judge: TrainingJudge,
        certain: Mapping[TensorKey, Tensor] | None = None,
    ) -> None:
        """Take in a step: what it gave, what was expected, and the noise floor, of the tensors that both have.

        certain: a part of the noise floor that is not known from replicas, of some of the tensors.
        """
        keys = sorted((key for key in actual.tensors if key in expected), key=order)
        diverged_before = bool(self.wrong)
        for key in keys:
            form = _form(actual.dtypes[key])
            pairs = _pairs(number, key, actual.tensors[key], expected[key], floor[key], form, judge)
            if certain and key in certain:
                pairs = _widened(pairs, certain[key])
            found = replace(judge, form=form).measures(pairs)
            row = self.quantities.setdefault(key.quantity, QuantityResult(key.quantity))
            row.add(pairs, 0, found, form)
            if found.outside[0]:
                first = pairs.at(found.first_outside[0], form)
                row.first_outside = row.first_outside or first
                if not diverged_before:
                    self.wrong.append(_wrong(key, actual, pairs, found.outside[0]))
                    self.first_divergence = self.first_divergence or first
            else:
                self.right += not diverged_before
            self.note(number, key, pairs, found)
        if not diverged_before and not self.wrong:
            self.right = 0
        self.steps += 1

    def note(self, number: int, key: TensorKey, pairs: Pairs, found: Measures) -> None:
        """Keep what was found of one tensor of a step, beyond what its quantity sums up."""


def _pairs(
    number: int, key: TensorKey, actual: Tensor, expected: Tensor, floor: Tensor, form: Format, judge: TrainingJudge
) -> Pairs:
    given = _flat(actual)
    place = layout.__wrapped__(((key, tuple(actual.shape)),))  # too large to be kept for the next step
    if actual.shape != expected.shape:
        nothing = np.full(given.shape, np.nan)
        return Pairs(number, place, given, nothing, nothing, nothing)
    right, sigma = _flat(expected), _flat(floor)
    # Where a format underflows, a result is off by half its smallest number, however often it was made of exact ones.
    sigma = np.where(sigma > 0, np.hypot(sigma, form.tiny), sigma)
    sigma = moderated(sigma, right, judge.replicas, judge.false_alarm, judge.elements)
    return Pairs(number, place, given, right, sigma, sigma)


def _widened(pairs: Pairs, certain: Tensor) -> Pairs:
    sigma = np.hypot(pairs.sigma, _flat(certain))
    return replace(pairs, sigma=sigma, wide_sigma=sigma)


def _flat(tensor: Tensor) -> Floats:
    found: Floats = tensor.detach().to("cpu", torch.float64).contiguous().numpy().ravel()
    return found


def _wrong(key: TensorKey, actual: Observed, pairs: Pairs, outside: int) -> Wrong:
    expected, given = pairs.expected, pairs.actual
    if not (np.isfinite(expected).all() and np.isfinite(given).all()):
        return Wrong(key, _module_of(key, actual), outside, len(expected), float("inf"))
    largest = float(np.abs(expected).max(initial=0.0))
    error = float(np.abs(given - expected).max(initial=0.0))
    square = float(expected @ expected)
    scale = float(given @ expected) / square if square else None
    if scale is not None and not _explains(scale, given, expected):
        scale = None
    relative = error / largest if largest else float("inf")
    return Wrong(key, _module_of(key, actual), outside, len(expected), relative, scale)


def _module_of(key: TensorKey, actual: Observed) -> str:
    return actual.modules.get(key.name, "") if key.quantity in ("site", "site grad", "output") else ""


def _explains(scale: float, actual: Floats, expected: Floats) -> bool:
    """Whether a factor explains at least nine tenths of the difference, and is one that can be told from 1."""
    left = float(np.linalg.norm(actual - scale * expected))
    return bool(abs(scale - 1) > 1e-4 and left < 0.1 * float(np.linalg.norm(actual - expected)))


def _form(dtype: torch.dtype) -> Format:
    """The format of a dtype; of complex numbers, that of their parts."""
    name = {torch.complex64: "float32", torch.complex128: "float64"}.get(dtype, str(dtype).removeprefix("torch."))
    return FORMATS[name]
