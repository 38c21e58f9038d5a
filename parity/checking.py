"""The check itself: a subject beside the reference, in lock-step and free-running."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from parity import __version__
from parity.case import Case
from parity.compare import FIELDS, SITES, Difference, Tensors, paired
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.formats import rounded, ulp_distance
from parity.subjects import TWIN, Reference, Subject, guarded, make_subject, subject_dtype
from parity.verdict import Verdict, bound, worst
from reference.config import State

MODES = ("lock-step", "free-running")

Progress = Callable[[str, int], None]


@dataclass
class QuantityResult:
    """What the comparison of one quantity found over the steps of one mode."""

    quantity: str
    compared: int = 0
    zero_in_both: int = 0
    out_of_bound: int = 0
    identical: bool = True
    largest_error: Difference | None = None
    largest_ulps: Difference | None = None

    def add(self, tensors: Tensors, dtype: str) -> Difference | None:
        """Take in one tensor; the first element out of bound, if any."""
        actual, expected, error = tensors.actual, tensors.expected, tensors.error
        self.compared += expected.size
        self.zero_in_both += int(np.count_nonzero((actual == 0) & (expected == 0)))
        self.identical &= actual.tobytes() == expected.tobytes()
        if not expected.size:
            return None
        # NaN counts as infinitely wrong: it must neither pass nor hide behind the maximum.
        size = np.where(np.isnan(error), np.inf, error)
        self.largest_error = _larger(self.largest_error, tensors, size, dtype, "error")
        self.largest_ulps = _larger(self.largest_ulps, tensors, ulp_distance(actual, expected, dtype), dtype, "ulps")
        out = ~(error <= bound(dtype) * np.maximum(1.0, np.abs(expected)))
        self.out_of_bound += int(np.count_nonzero(out))
        return tensors.at(int(np.argmax(out)), dtype) if out.any() else None


def _larger(known: Difference | None, tensors: Tensors, size: Any, dtype: str, attribute: str) -> Difference:
    largest = int(np.argmax(size))
    value = getattr(known, attribute) if known else -1.0
    if known and (math.isnan(value) or value >= size.flat[largest]):
        return known
    return tensors.at(largest, dtype)


@dataclass
class ModeResult:
    """What one mode found. steps: how many were compared."""

    mode: str
    steps: int = 0
    quantities: dict[str, QuantityResult] = field(default_factory=dict)
    first_divergence: Difference | None = None
    first_site: Difference | None = None
    verdict: Verdict = Verdict.INCONCLUSIVE
    reason: str = "Nothing was compared."

    def add(self, pairs: Iterable[Tensors], dtype: str) -> None:
        """Take in the tensors of one step, in the order in which it computes them."""
        for tensors in pairs:
            row = self.quantities.setdefault(tensors.quantity, QuantityResult(tensors.quantity))
            out = row.add(tensors, dtype)
            if out and not self.first_divergence:
                self.first_divergence = out
        self.steps += 1

    def conclude(self, dtype: str) -> None:
        """Set the verdict from what was compared."""
        rows = self.quantities.values()
        if not sum(row.compared for row in rows):
            return
        if self.first_divergence:
            self.verdict, self.reason = Verdict.DIVERGED, f"{self.first_divergence}."
        elif all(row.identical for row in rows):
            self.verdict, self.reason = Verdict.IDENTICAL, "Every bit is the same."
        else:
            self.verdict = Verdict.PARITY
            self.reason = f"Every error is within {bound(dtype):.1e} of the larger of 1 and the expected value."


@dataclass
class Result:
    """The outcome of a check; tables, JSON and assertions are views of it."""

    case: Case
    subject: str
    dtype: str
    modes: list[ModeResult]
    unchecked: list[str]
    verdict: Verdict
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: no NaN or infinity, which stand as strings."""
        state = self.case.state
        return {
            "parity": __version__,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "subject": self.subject,
            "dtype": self.dtype,
            "bound": bound(self.dtype),
            "config": vars(self.case.config),
            "hyper": vars(self.case.hyper),
            "run": {"first_step": state.step, "steps": self.case.steps, "batch_size": self.case.batch_size},
            "unchecked": self.unchecked,
            "modes": [_plain(mode) for mode in self.modes],
        }


def _plain(value: Any) -> Any:
    if isinstance(value, ModeResult):
        return {**_plain(vars(value)), "quantities": [_plain(row) for row in value.quantities.values()]}
    if isinstance(value, (QuantityResult, Difference)):
        return _plain({**vars(value), "where": value.where} if isinstance(value, Difference) else vars(value))
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def check(
    subject: Subject | Callable[..., Subject] | str = TWIN,
    case: Case | None = None,
    *,
    modes: Iterable[str] = MODES,
    sites: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    progress: Progress = lambda mode, steps: None,
) -> Result:
    """Compare a subject with the reference, step by step, in every quantity that the subject exposes.

    subject: an object with load and train_step, a factory make(config, hyper), or the name of one
    (`package.module:make`, `path/to/file.py:make`). case: None for 20 steps of default size on the embedded names.
    In lock-step the subject is set to the reference's state before every step; free-running both start equal and
    run on. sites: compare the named intermediates too; where lock-step diverges they are asked for anyway, to say
    where. dtype and device are passed to the factory. progress(mode, steps done) is called after every step.

    A subject that fails gives the verdict ERROR. Raises UsageError where the subject does not exist.
    """
    case = case or Case.from_names()
    name = subject if isinstance(subject, str) else _name(subject)
    run = _Run(case, sites, progress)
    results: list[ModeResult] = []
    try:
        if isinstance(subject, str) or not hasattr(subject, "train_step"):
            subject = make_subject(subject, case.config, case.hyper, dtype=dtype, device=device)
        run.use(cast("Subject", subject))
        for mode in modes:
            results.append(ModeResult(mode))
            (run.lock_step if mode == "lock-step" else run.free_running)(results[-1])
        if not results:
            raise UsageError("No mode was named.")
        verdict = worst(result.verdict for result in results)
        reason = next(result.reason for result in results if result.verdict is verdict)
    except (SubjectError, NoExpectation) as error:
        verdict = Verdict.ERROR if isinstance(error, SubjectError) else Verdict.INCONCLUSIVE
        reason = str(error)
        if results:
            results[-1].verdict, results[-1].reason = verdict, reason
    return Result(case, name, run.dtype, results, run.unchecked(), verdict, reason)


def _name(subject: Any) -> str:
    kind = subject if hasattr(subject, "__qualname__") else type(subject)
    return f"{kind.__module__}:{kind.__qualname__}"


class _Run:
    """One subject and one reference on one case."""

    def __init__(self, case: Case, sites: bool, progress: Progress) -> None:
        self.case, self.sites, self.progress = case, sites, progress
        self.reference = Reference(case.config, case.hyper)
        self.dtype = "float64"
        self.exposed: set[str] = set()

    def use(self, subject: Subject) -> None:
        self.subject = subject
        self.dtype = subject_dtype(subject)
        self.expose_sites(self.sites)

    def expose_sites(self, expose: bool) -> None:
        self.reference.expose_sites = expose
        if hasattr(self.subject, "expose_sites"):
            self.subject.expose_sites = expose

    def lock_step(self, result: ModeResult) -> None:
        state = self.case.state
        for batch in self.case.batches():
            state = self.in_format(state)
            diverged = result.first_divergence is not None
            self.load(state)
            result.add(self.step(state.step, batch), self.dtype)
            after = self.reference.state
            if result.first_divergence and not diverged:
                result.first_site = self.locate(state, batch)
            state = after
            self.progress(result.mode, result.steps)
        result.conclude(self.dtype)

    def free_running(self, result: ModeResult) -> None:
        self.load(self.in_format(self.case.state))
        for batch in self.case.batches():
            result.add(self.step(self.reference.state.step, batch), self.dtype)
            self.progress(result.mode, result.steps)
        result.conclude(self.dtype)

    def in_format(self, state: State) -> State:
        """The state in numbers that both sides can represent."""
        if self.dtype == "float64":
            return state
        params, m, v = (
            {name: rounded(matrix, self.dtype) for name, matrix in tensors.items()}
            for tensors in (state.params, state.m, state.v)
        )
        return State(params, m, v, state.step)

    def load(self, state: State) -> None:
        """Set both sides; the subject gets lists of its own, so that it cannot change the reference's."""
        params, m, v = (
            {name: [list(row) for row in matrix] for name, matrix in tensors.items()}
            for tensors in (state.params, state.m, state.v)
        )
        guarded(f"load before step {state.step}", self.subject.load, State(params, m, v, state.step))
        self.reference.load(state)

    def step(self, number: int, batch: list[list[int]]) -> list[Tensors]:
        """One step on both sides."""
        expected = self.reference.train_step(batch)
        actual = guarded(f"step {number}", self.subject.train_step, [list(tokens) for tokens in batch])
        if actual is None:
            raise SubjectError(f"The subject's train_step gave nothing back at step {number}.")
        lengths = [min(self.case.config.block_size, len(tokens) - 1) for tokens in batch]
        try:
            pairs = list(paired(number, actual, expected, lengths))
        except (TypeError, ValueError, AttributeError) as error:
            raise SubjectError(f"The subject's answer at step {number} cannot be read as a Step: {error}.") from error
        self.exposed |= {tensors.quantity for tensors in pairs}
        return pairs

    def locate(self, state: State, batch: list[list[int]]) -> Difference | None:
        """The first site out of bound at a step that diverged, if the subject exposes sites."""
        if not hasattr(self.subject, "expose_sites"):
            return None
        self.expose_sites(True)
        self.load(state)
        again = ModeResult("lock-step")
        again.add((t for t in self.step(state.step, batch) if t.quantity in SITES), self.dtype)
        self.expose_sites(self.sites)
        return again.first_divergence

    def unchecked(self) -> list[str]:
        """The quantities that the subject does not expose."""
        asked = [quantity for quantity in FIELDS.values() if self.sites or quantity not in SITES]
        return [quantity for quantity in asked if quantity not in self.exposed]
