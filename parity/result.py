"""What a check found, as data: tables, JSON and assertions are views of it."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import __version__
from parity.case import Case
from parity.compare import Difference, Tensors, distance, over_floor
from parity.formats import Floats, Format
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

    def accepts(self, actual: Floats, expected: Floats, sigma: Floats) -> bool:
        """Whether rounding would explain these differences."""
        return bool(np.all(over_floor(distance(actual, expected), sigma) <= self.limit))


@lru_cache(maxsize=1024)
def _shuffle(size: int) -> NDArray[np.int64]:
    return np.random.default_rng(size).permutation(size)


WRONG_ANSWERS: dict[str, Callable[[Floats], Floats]] = {
    "zeros": np.zeros_like,
    "negated": np.negative,
    "reversed": lambda expected: expected.ravel()[::-1].reshape(expected.shape),
    "shuffled": lambda expected: expected.ravel()[_shuffle(expected.size)].reshape(expected.shape),
}
"""What a check must be able to refuse; one that never does is vacuous."""


def _median(values: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.median(values))


@dataclass
class TensorPower:
    """What the check of one tensor could have seen.

    medians, worst: of the smallest relative errors that would have been caught, element by element, at every step.
    accepted, refused: the wrong answers that passed at some step, and those that did not.
    """

    medians: list[float] = field(default_factory=list)
    worst: float = 0.0
    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    @property
    def median(self) -> float:
        """Of the steps' medians; NaN where all that was expected is 0."""
        return _median(np.array(self.medians)) if self.medians else math.nan

    @property
    def blind(self) -> list[str]:
        """The wrong answers that no step refused."""
        return sorted(self.accepted - self.refused)

    def add(self, tensors: Tensors, judge: Judge) -> None:
        """Take in one step."""
        expected, sigma = tensors.expected, tensors.sigma if tensors.loose is None else tensors.loose
        nonzero = (expected != 0) & np.isfinite(sigma)
        if nonzero.any():
            with np.errstate(over="ignore"):
                visible = judge.limit * sigma[nonzero] / np.abs(expected[nonzero])
            self.medians.append(_median(visible))
            self.worst = max(self.worst, float(visible.max()))
        for name, wrong in WRONG_ANSWERS.items():
            answer = wrong(expected)
            # An answer that happens to be right is not a wrong one, unless there is nothing but zeros.
            if name in ("reversed", "shuffled") and expected.any() and np.array_equal(answer, expected):
                continue
            (self.accepted if judge.accepts(answer, expected, sigma) else self.refused).add(name)


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
        refused = set().union(*(power.refused for power in self.power.values()))
        return sorted(set().union(*(power.accepted for power in self.power.values())) - refused)

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

    def add(self, tensors: Tensors, judge: Judge) -> Difference | None:
        """Take in one tensor; the first element outside, if any."""
        actual, expected, z = tensors.actual, tensors.expected, tensors.z
        self.compared += expected.size
        self.zero_in_both += int(np.count_nonzero((actual == 0) & (expected == 0)))
        self.exact += int(np.count_nonzero(tensors.sigma == 0))
        self.undecided += int(np.count_nonzero(np.isnan(z)))
        self.identical &= actual.tobytes() == expected.tobytes()
        if not expected.size:
            return None
        self.power[tensors.kind].add(tensors, judge)
        ulps = judge.form.ulp_distance(actual, expected)
        self.largest_z = _larger(self.largest_z, tensors, np.where(np.isnan(z), -1.0, z), judge, "z")
        self.largest_error = _larger(self.largest_error, tensors, tensors.error, judge, "error")
        self.largest_ulps = _larger(self.largest_ulps, tensors, ulps, judge, "ulps")
        outside = judge.outside(tensors)
        self.outside += int(np.count_nonzero(outside))
        return tensors.at(int(np.argmax(outside)), judge.form) if outside.any() else None


def _larger(known: Difference | None, tensors: Tensors, sizes: Floats, judge: Judge, name: str) -> Difference:
    # NaN counts as infinitely large: it must not hide behind the maximum.
    sizes = np.where(np.isnan(sizes), np.inf, sizes)
    largest = int(np.argmax(sizes))
    value = getattr(known, name) if known else -2.0
    if known and (math.isnan(value) or value >= sizes.flat[largest]):
        return known
    return tensors.at(largest, judge.form)


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

    def add(self, pairs: Iterable[Tensors], judge: Judge) -> None:
        """Take in the tensors of one step, in the order in which it computes them."""
        for tensors in pairs:
            row = self.quantities.setdefault(tensors.quantity, QuantityResult(tensors.quantity))
            outside = row.add(tensors, judge)
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

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: NaN and infinities stand as strings."""
        run = {"first_step": self.case.state.step, "steps": self.case.steps, "batch_size": self.case.batch_size}
        plain: dict[str, Any] = _plain(
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
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, ModeResult):
        return {**_plain(vars(value)), "quantities": _plain(list(value.quantities.values()))}
    if isinstance(value, QuantityResult):
        return {**_plain(vars(value)), "verdict": value.verdict.value, "vacuous": value.vacuous}
    if isinstance(value, TensorPower):
        return _plain({"median": value.median, "worst": value.worst, "blind": value.blind})
    if isinstance(value, TruthResult):
        return _plain(vars(value))
    if isinstance(value, Difference):
        return _plain({**vars(value), "where": value.where})
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
