"""Judging answers that were written down, by conformance vectors, as `parity.check` judges a subject."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from parity import __version__
from parity.errors import SubjectError, UsageError
from parity.judging.causes import OtherRevision
from parity.judging.checking import check
from parity.judging.result import Result
from parity.judging.sentences import behaves_like
from parity.number_formats import FORMATS
from parity.progress import each
from parity.quantities import FIELDS, in_short
from parity.subjects.messages import decoded, step_of
from parity.subjects.subject import Subject
from parity.vectors.format import DTYPES, Mistake, Vector, load_vectors
from parity.verdict import Verdict, worst
from parity.words import counted, did_you_mean
from reference.config import State, Step


def answer(fields: dict[str, Any]) -> Step:
    """One step as it was written down; SubjectError for fields that a Step does not have."""
    return step_of({**fields, "type": "step"})


class Recorded(Subject):
    """Answers that were written down, as a subject. Raises SubjectError where they are not what they should be."""

    def __init__(self, vector: Vector, steps: Any, dtype: str) -> None:
        self.name, self.batches, self.steps, self.dtype = vector.name, list(vector.case.batches()), steps, dtype

    @override
    def load(self, state: State) -> None:
        """Start from the first step again."""
        if not isinstance(self.steps, list) or not all(isinstance(step, dict) for step in self.steps):
            raise SubjectError(f"The answers to the case {self.name} must be a list of objects, one for each step.")
        if len(self.steps) != len(self.batches):
            raise SubjectError(
                f"There are answers to {counted(len(self.steps), 'step')} of the case {self.name}, which has "
                f"{len(self.batches)}."
            )
        self.step = 0

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        """The answer to the next step."""
        if self.step >= len(self.batches) or batch != self.batches[self.step]:
            raise SubjectError("Only the case's own steps were written down.")
        self.step += 1
        return answer(self.steps[self.step - 1])


@dataclass
class Judged:
    """The outcome of one case; result is None where there are no answers to it.

    narrower: a format in which rounding would explain the answers. unsupported: the port says it has no such model.
    """

    vector: Vector
    result: Result | None
    mistakes: list[Mistake] = field(default_factory=list)
    narrower: str | None = None
    unsupported: bool = False

    @property
    def verdict(self) -> Verdict:
        """As of any check; that of a case that is not supported does not count."""
        return self.result.verdict if self.result else Verdict.INCONCLUSIVE

    @property
    def reason(self) -> str:
        """Why, and which mistake it looks like."""
        without = "The port has no such model." if self.unsupported else "There are no answers."
        reason = self.result.reason if self.result else without
        return f"{reason} {named(self.mistakes)}".strip()

    @property
    def largest_z(self) -> float | None:
        """Over all quantities; None where nothing was compared."""
        return self.result.largest_z if self.result else None


def named(mistakes: Sequence[Mistake]) -> str:
    """A sentence that names the mistakes, if there are any."""
    return behaves_like([mistake.mistake for mistake in mistakes])


@dataclass
class Verification:
    """The outcome of verifying a file of answers."""

    folder: Path
    results: Path
    cases: list[Judged]

    @property
    def supported(self) -> list[Judged]:
        """The cases that the port has a model for; all of them where it has one for none."""
        return [case for case in self.cases if not case.unsupported] or self.cases

    @property
    def verdict(self) -> Verdict:
        """The worst one of the cases that are supported; a case without answers is INCONCLUSIVE."""
        return worst(case.verdict for case in self.supported)

    @property
    def mistakes(self) -> list[Mistake]:
        """Those that fit every diverged case in which they show."""
        diverged = [case for case in self.cases if case.verdict is Verdict.DIVERGED]
        fitting = {mistake.name: mistake for case in diverged for mistake in case.mistakes}
        for case in diverged:
            shown = {mistake.name for mistake in case.vector.mistakes} - {mistake.name for mistake in case.mistakes}
            fitting = {name: mistake for name, mistake in fitting.items() if name not in shown}
        return list(fitting.values())

    @property
    def reason(self) -> str:
        """Why, in a few sentences, and what was not checked."""
        verdict, cases, of = self.verdict, self.supported, counted(len(self.supported), "case")
        every = f"all {of}" if len(cases) > 1 else f"the case {cases[0].vector.name}"
        if verdict is Verdict.IDENTICAL:
            reason = f"Every bit is the same in {every}."
        elif verdict is Verdict.PARITY:
            largest = max(case.largest_z or 0.0 for case in cases)
            reason = f"Rounding explains every difference in {every}: largest z {largest:.2g}."
        else:
            alike = [case for case in cases if case.verdict is verdict]
            names = ", ".join(case.vector.name for case in alike)
            reason = f"{len(alike)} of {of}: {names}. {self._cause(alike)}".strip()
        compared = [case.result for case in self.cases if case.result and case.verdict is not Verdict.ERROR]
        order = list(FIELDS.values())
        unchecked = sorted({what for result in compared for what in result.unchecked if what in order}, key=order.index)
        unchecked += dict.fromkeys(what for result in compared for what in result.unchecked if what not in order)
        if unchecked:
            reason += f" Not in all answers, so not checked throughout: {in_short(unchecked)}."
        reason += self._unsupported()
        left = [f"{case.vector.name} ({case.vector.exercises})" for case in self.cases if case.unsupported]
        return reason + (f" Not exercised, for the port has no such models: {'; '.join(left)}." if left else "")

    def _unsupported(self) -> str:
        """How a port says that it has not what a case has, where that case alone has it and all others pass."""
        failing = [case for case in self.supported if not case.verdict.passes]
        others = [OtherRevision.of(case.vector.case.config, case.vector.case.hyper) for case in failing]
        if self.verdict is not Verdict.DIVERGED or not all(others) or len(failing) == len(self.supported):
            return ""
        asked = " and ".join(dict.fromkeys(other.what for other in others if other))
        return (
            f" There the model has {asked}, and all other cases pass: a port that does not have that answers "
            '"unsupported" in place of the list of steps.'
        )

    def _cause(self, alike: Sequence[Judged]) -> str:
        """What the cases that did not pass have in common."""
        narrower = {case.narrower for case in self.cases if case.result}
        if len(narrower) == 1 and None not in narrower:
            (form,) = narrower
            return (
                f"In {form} rounding would explain it: for an implementation that computes in {form}, write the "
                f"vectors with --dtype {form}."
            )
        reasons = {case.reason for case in alike}
        return reasons.pop() if len(reasons) == 1 else named(self.mistakes)

    def to_dict(self) -> dict[str, Any]:
        """The outcome for JSON."""
        return {
            "parity": __version__,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "vectors": str(self.folder),
            "results": str(self.results),
            "dtype": self.cases[0].vector.dtype,
            "mistakes": [mistake.name for mistake in self.mistakes],
            "cases": [
                {
                    "name": case.vector.name,
                    "verdict": None if case.unsupported else case.verdict.value,
                    "reason": case.reason,
                    "mistakes": [mistake.name for mistake in case.mistakes],
                    "result": case.result.to_dict() if case.result else None,
                }
                for case in self.cases
            ],
        }


def verify(folder: Path, results: Path) -> Verification:
    """Judge recorded answers by the vectors in a folder, case by case, as `parity.check` judges a subject.

    Raises UsageError for a folder without vectors of this version, and for a file that does not hold answers to them.
    """
    vectors = load_vectors(folder)
    answers = _load_answers(results, [vector.name for vector in vectors])
    return Verification(folder, results, [_judged(vector, answers) for vector in each("cases", vectors)])


def _load_answers(path: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        answers = decoded(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}.") from None
    if not isinstance(answers, dict):
        raise UsageError(f"{path} must be an object with a list of steps for each case, not {type(answers).__name__}.")
    unknown = [name for name in answers if name not in names]
    if unknown:
        near = did_you_mean(unknown[0], names)
        raise UsageError(f"{path} has the unknown case {unknown[0]!r}{near}; the cases are {', '.join(names)}.")
    return answers


def _judged(vector: Vector, answers: dict[str, Any]) -> Judged:
    if vector.name not in answers:
        return Judged(vector, None)
    if answers[vector.name] == "unsupported":
        return Judged(vector, None, unsupported=True)

    def judge(dtype: str) -> Result:
        subject = Recorded(vector, answers[vector.name], dtype)
        return check(subject, vector.case, modes=("free-running",), false_alarm=vector.false_alarm)

    judged = Judged(vector, judge(vector.dtype))
    for mode in judged.result.modes if judged.result else ():
        mode.causes = [cause for cause in mode.causes if not isinstance(cause, OtherRevision)]
    if judged.verdict is Verdict.DIVERGED:
        judged.mistakes = vector.fitting([answer(step) for step in answers[vector.name]])
        narrower = [dtype for dtype in DTYPES if FORMATS[dtype].digits < FORMATS[vector.dtype].digits]
        fits = (dtype for dtype in narrower if not judged.mistakes and judge(dtype).verdict.passes)
        judged.narrower = next(fits, None)
    return judged
