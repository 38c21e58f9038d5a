"""What a check found, as data: tables, JSON and assertions are views of it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import __version__
from parity.case import Case
from parity.judging.element_errors import Measures, measure, outside
from parity.judging.pairs import Difference, Pairs, Tensors, distance, over_floor
from parity.judging.power import TensorPower, answers
from parity.number_formats import Floats, Format
from parity.verdict import Verdict, worst


@dataclass(frozen=True)
class Judge:
    """What an element is judged by: the format, and the largest z that rounding explains at a false-alarm rate."""

    form: Format
    limit: float
    false_alarm: float

    def outside(self, tensors: Tensors) -> NDArray[np.bool_]:
        """Where rounding does not explain the difference."""
        return tensors.z > self.limit

    def measures(self, pairs: Pairs) -> Measures:
        """All that `parity.judging.element_errors` finds of the tensors of a step."""
        place = pairs.layout
        counts, *others = measure(
            pairs.actual,
            pairs.expected,
            pairs.sigma,
            pairs.loose,
            place.starts,
            np.array(place.first_tensors),
            place.shuffled,
            self.limit,
            self.form.digits,
            self.form.lowest,
        )
        return Measures(*counts.tolist(), *(other.tolist() for other in others))

    def accepts(self, actual: Floats, expected: Floats, sigma: Floats) -> bool:
        """Whether rounding would explain these differences."""
        return bool(np.all(over_floor(distance(actual, expected), sigma) <= self.limit))

    def count_outside(self, pairs: Sequence[Tensors]) -> int:
        """How many elements rounding does not explain."""
        pairs = Pairs.of(pairs)
        return int(outside(pairs.actual, pairs.expected, pairs.sigma, self.limit))


@dataclass
class QuantityResult:
    """What the comparison of one quantity found over the steps of one mode.

    compared: elements; zero_in_both: those that are 0 on both sides; exact: those with a noise floor of 0, which
    must be equal; outside: those that rounding does not explain; undecided: those that differ and have no finite
    noise floor.
    """

    quantity: str
    compared: int = 0
    zero_in_both: int = 0
    exact: int = 0
    outside: int = 0
    undecided: int = 0
    identical: bool = True
    largest_z: Difference | None = None
    largest_error: Difference | None = None
    largest_ulps: Difference | None = None
    power: dict[str, TensorPower] = field(default_factory=lambda: defaultdict(TensorPower))

    @property
    def vacuous(self) -> list[str]:
        """Wrong answers that no tensor of the quantity would have refused."""
        accepted = refused = 0
        for power in self.power.values():
            accepted, refused = accepted | power.accepted, refused | power.refused
        return answers(accepted & ~refused)

    @property
    def blind(self) -> dict[str, list[str]]:
        """The tensors that would have accepted a wrong answer, and which."""
        return {tensor: power.blind for tensor, power in self.power.items() if power.blind}

    @property
    def verdict(self) -> Verdict:
        """The verdict on this quantity alone."""
        if self.outside:
            return Verdict.DIVERGED
        if not self.compared or self.undecided or self.vacuous:
            return Verdict.INCONCLUSIVE
        return Verdict.IDENTICAL if self.identical else Verdict.PARITY

    def add(self, pairs: Pairs, group: int, found: Measures, judge: Judge) -> Difference | None:
        """Take in a group of the tensors of one step; the first element outside, if any."""
        elements = found.elements[group]
        self.compared += elements
        self.zero_in_both += found.zero_in_both[group]
        self.exact += found.exact[group]
        self.undecided += found.undecided[group]
        self.outside += found.outside[group]
        self.identical &= not found.unequal[group]
        if not elements:
            return None
        for tensor in range(*pairs.layout.first_tensors[group : group + 2]):
            self.power[pairs.layout.kinds[tensor]].add(
                found.medians[tensor], found.worst[tensor], found.accepted[tensor], found.refused[tensor]
            )
        for name, place, size in zip(LARGEST, found.places[group], found.sizes[group], strict=True):
            known = getattr(self, f"largest_{name}")
            if known is None or size > _size(getattr(known, name), name):
                setattr(self, f"largest_{name}", pairs.at(place, judge.form))
        return pairs.at(found.first_outside[group], judge.form) if found.outside[group] else None


LARGEST = ("z", "error", "ulps")
"""What the largest difference of a quantity is noted of."""


def _size(value: float, name: str) -> float:
    # NaN counts as infinitely large: it must not hide behind the maximum. A z that is NaN says that nobody knows.
    return value if not math.isnan(value) else -1.0 if name == "z" else math.inf


@dataclass
class TruthResult:
    """How far subject and reference are from the truth, in the quantities of a lock-step run.

    Each dict holds the largest z by quantity; the noise floor is that of the subject's number format, for the
    reference that of float64. failures: why the reference had no answer, where it had none.
    """

    subject: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, column: dict[str, float], pairs: Iterable[Tensors]) -> None:
        """Take in one comparison of one step."""
        for tensors in pairs:
            z = np.where(np.isnan(tensors.z), np.inf, tensors.z)
            column[tensors.quantity] = max(column.get(tensors.quantity, 0.0), float(z.max(initial=0.0)))

    def sentence(self, limit: float) -> str:
        """Which of the two is wrong."""
        subject = all(z <= limit for z in self.subject.values())
        reference = not self.failures and all(z <= limit for z in self.reference.values())
        if subject and reference:
            return "The truth agrees with both: subject and reference are as near to it as rounding allows."
        cause = f" ({self.failures[0]})" if self.failures else ""
        if subject:
            return f"The reference is wrong here, not the subject{cause}."
        if reference:
            return "The subject is wrong: the truth agrees with the reference."
        return f"Both are wrong: neither subject nor reference is near the truth{cause}."


@dataclass
class ModeResult:
    """What one mode found.

    steps: how many were compared. first_z: the largest z of the tensor that diverged first. kinks: ReLUs whose input
    lay within the noise floor of zero, kinks_turned: those of them that the subject, legitimately, decided otherwise
    than the reference. steep: elements whose update was judged by itself, from the subject's own gradient.
    repeatable: whether a question asked a second time got an answer of the same bits; None where none was.
    """

    mode: str
    steps: int = 0
    quantities: dict[str, QuantityResult] = field(default_factory=dict)
    first_divergence: Difference | None = None
    first_site: Difference | None = None
    first_z: float = 0.0
    kinks: int = 0
    kinks_turned: int = 0
    steep: int = 0
    repeatable: bool | None = None
    truth: TruthResult | None = None
    verdict: Verdict = Verdict.INCONCLUSIVE
    reason: str = "Nothing was compared."

    def add(self, pairs: Sequence[Tensors] | Iterator[Tensors], judge: Judge) -> None:
        """Take in the tensors of one step, in the order in which it computes them."""
        pairs = Pairs.of(list(pairs) if isinstance(pairs, Iterator) else pairs)
        found = judge.measures(pairs)
        for group, quantity in enumerate(pairs.layout.groups):
            row = self.quantities.setdefault(quantity, QuantityResult(quantity))
            outside = row.add(pairs, group, found, judge)
            if outside and not self.first_divergence:
                self.first_divergence = outside
        self.steps += 1

    def conclude(self, judge: Judge) -> None:
        """Set the verdict from what was compared."""
        rows = [row for row in self.quantities.values() if row.compared]
        if not rows:
            return
        telling = [row for row in rows if row.verdict is not Verdict.INCONCLUSIVE]
        undecided = sum(row.undecided for row in rows)
        if self.first_divergence:
            self.verdict, self.reason = Verdict.DIVERGED, f"{self.first_divergence} (limit {judge.limit:.1f})."
        elif undecided:
            self.reason = f"{undecided} elements differ where the noise floor is not finite."
        elif not telling:
            self.reason = "Every quantity is vacuous in this case: a wrong answer would have passed."
        else:
            self.verdict = worst(row.verdict for row in telling)
            largest = max(row.largest_z.z for row in telling if row.largest_z)
            self.reason = (
                "Every bit is the same."
                if self.verdict is Verdict.IDENTICAL
                else f"Rounding explains every difference: largest z {largest:.2g}, limit {judge.limit:.1f}."
            )


@dataclass
class Result:
    """The outcome of a check."""

    case: Case
    subject: str
    judge: Judge
    modes: list[ModeResult]
    unchecked: list[str]
    verdict: Verdict
    reason: str

    @property
    def largest_z(self) -> float | None:
        """Over all quantities and modes; None where nothing was compared, NaN where of nothing it is known."""
        rows = [row for mode in self.modes for row in mode.quantities.values()]
        return max((row.largest_z.z for row in rows if row.largest_z), key=lambda z: _size(z, "z"), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: NaN and infinities stand as strings."""
        run = {"first_step": self.case.state.step, "steps": self.case.steps, "batch_size": self.case.batch_size}
        fields: dict[str, Any] = plain(
            {
                "parity": __version__,
                "verdict": self.verdict.value,
                "reason": self.reason,
                "subject": self.subject,
                "dtype": self.judge.form.name,
                "false_alarm": self.judge.false_alarm,
                "limit": self.judge.limit,
                "config": vars(self.case.config),
                "hyper": vars(self.case.hyper),
                "run": run,
                "unchecked": self.unchecked,
                "not_exercised": self.case.not_exercised(),
                "modes": self.modes,
            }
        )
        return fields


def plain(value: Any) -> Any:
    """What JSON can say of a result or a part of one; NaN and infinities stand as strings."""
    if isinstance(value, ModeResult):
        return {**plain(vars(value)), "quantities": plain(list(value.quantities.values()))}
    if isinstance(value, QuantityResult):
        return {**plain(vars(value)), "verdict": value.verdict.value, "vacuous": value.vacuous}
    if isinstance(value, TensorPower):
        return plain({"median": value.median, "worst": value.worst, "blind": value.blind})
    if isinstance(value, TruthResult):
        return plain(vars(value))
    if isinstance(value, Difference):
        return plain({**vars(value), "where": value.where})
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
