"""What the laws are made of: asking a subject, comparing what it said, and failing in one line."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import currently_in_test_context, reject

from parity.case import Case
from parity.errors import NoExpectation, SubjectError
from parity.judging.checking import check
from parity.judging.pairs import Tensors
from parity.judging.result import Judge, ModeResult, Result
from parity.judging.run import Run
from parity.number_formats import FORMATS, Floats
from parity.oracle.noisy_replay import REPLICAS
from parity.quantities import FIELDS, SITES
from parity.suite.bound import Bound
from parity.testing.assertions import error_class, parity_error, signature
from parity.testing.strategies import configs
from parity.testing.tally import tally
from parity.verdict import FALSE_ALARM, Verdict, limit
from reference.config import State

STORE = Path(".parity")
QUANTITIES = tuple(quantity for quantity in FIELDS.values() if quantity not in SITES)

SMALL = configs(max_layer=2, max_embd=8, max_block=6)
"""Models that are large enough for every mistake, and small enough to ask a subject many questions."""


def agrees(subject: Bound, case: Case, *quantities: str, mode: str = "lock-step") -> None:
    """Fail unless these quantities are the reference's, whatever becomes of the others; to be used in properties.

    Skips where the subject exposes none of them; rejects a case in which nothing can be decided.
    """
    result = check(subject, case, modes=(mode,))
    if not result.modes[0].steps and (result.verdict is Verdict.INCONCLUSIVE or refused_to_make(result.reason)):
        pass_over(result.reason)
    if result.verdict is Verdict.ERROR:
        tally.note(result)
        _refuse(result, subject, mode)
    if not set(quantities) - set(result.unchecked):
        pytest.skip(f"The subject does not expose {' or '.join(quantities)}.")
    about = only(result, quantities)
    tally.note(about)
    if about.verdict is Verdict.INCONCLUSIVE:
        pass_over(about.reason)
    if not about.verdict.passes:
        _refuse(about, subject, mode)


def refused_to_make(reason: str) -> bool:
    """Whether a factory said with NotImplementedError that it has no such model."""
    return "raised NotImplementedError" in reason and "in making it" in reason


def pass_over(reason: str) -> NoReturn:
    """Decide nothing: another case is drawn, and a law for which none is left fails; outside of properties, skip."""
    if currently_in_test_context():
        reject()
    pytest.skip(reason)


def _refuse(result: Result, subject: Bound, mode: str) -> NoReturn:
    options = {**subject.options, "modes": (mode,)}
    raise parity_error(result, result.verdict, result.reason, signature(result), STORE, options)


def only(result: Result, quantities: Sequence[str]) -> Result:
    """The result as if the subject had been asked for these quantities alone, in the one mode that was run."""
    (mode,) = result.modes
    rows = {quantity: row for quantity, row in mode.quantities.items() if quantity in quantities}
    if mode.first_divergence and mode.first_divergence.quantity in rows:
        return result
    outside = [row.largest_z for row in rows.values() if row.outside]
    about = ModeResult(mode.mode, mode.steps, rows, outside[0] if outside else None)
    about.conclude(result.judge)
    if outside and mode.first_divergence:
        about.reason += f" Earlier: {mode.first_divergence}."
    return replace(result, modes=[about], verdict=about.verdict, reason=about.reason)


Answer = dict[tuple[str, str], Tensors]
"""By quantity and tensor: what the subject said, the noise floor, and what the reference says (expected)."""


class Questions:
    """A subject that is set to a state before every question, on the models of one case."""

    def __init__(self, subject: Bound, case: Case) -> None:
        self.named, self.case = subject, case
        self.run = Run(case, False, "replay")
        self.run.judge = Judge(FORMATS["float64"], limit(FALSE_ALARM, self.run.elements(1), REPLICAS), FALSE_ALARM)
        self.subject: Any = subject(case.config, case.hyper)
        self.run.use(self.subject)
        self.reference: Answer = {}

    def load(self, state: State | None = None) -> State:
        """Set the subject, and all that it is held against, to a state (None: the case's), which comes back rounded."""
        state = self.run.in_format(state or self.case.state)
        self.run.load(state)
        return state

    def step(self, batch: list[list[int]], state: State | None = None) -> Answer:
        """What the subject says to one step from a state (None: the case's).

        A ReLU within the noise floor of its kink may fall to either side in each answer: its whole effect counts as
        noise. NoExpectation where the reference has no answer.
        """
        run, state = self.run, self.load(state)
        before = run.floor.point
        expected = run.expected(state.step, batch)
        sigma, kinks = run.floor.train_step(batch, run.judge.limit)
        actual = run.answer(state.step, batch)
        answer = {t.key[1:]: t for t in run.paired(state.step, batch, actual, expected, sigma)}
        self.reference = {t.key[1:]: t for t in run.paired(state.step, batch, expected, expected, sigma)}
        for kink in kinks:
            turned = run.floor.exact(before, batch, {kink})
            if turned is None:
                continue
            for t in run.paired(state.step, batch, turned, expected, sigma):
                if t.key[1:] in answer:
                    known = answer[t.key[1:]]
                    answer[t.key[1:]] = replace(known, sigma=np.hypot(known.sigma, t.error))
        return {key: self.with_own_floor(t, answer) for key, t in answer.items()}

    def with_own_floor(self, t: Tensors, answer: Answer) -> Tensors:
        """The tensor; where it is not the reference's, with a noise floor for another function.

        A floor for every element is known of the reference alone. Another function, whose values may be large where
        the reference's are 0, is granted that of the quantity as a whole, in proportion to its own values. That it
        is another function is for other laws to say.
        """
        if not self.run.judge.outside(t).any():
            return t
        same = [other for other in answer.values() if other.quantity == t.quantity]
        ratios = [np.max(other.sigma) / np.max(np.abs(other.expected)) for other in same if other.expected.any()]
        size = np.max(np.abs(t.actual), initial=0.0, where=np.isfinite(t.actual))
        return replace(t, sigma=np.hypot(t.sigma, size * max(ratios, default=self.run.judge.form.u)))

    def same(self, law: str, actual: Answer, expected: Answer) -> None:
        """Fail unless rounding explains how two answers differ; skip where there is nothing to compare.

        Both have rounding errors of their own, so the squares of their noise floors add up. Raises SubjectError where
        one answer exposes something that the other does not.
        """
        if actual.keys() - expected.keys():
            changed = ", ".join(sorted({quantity for quantity, _ in actual.keys() - expected.keys()}))
            raise SubjectError(f"The subject exposes {changed} in one answer and not in another.")
        self.judge(
            law,
            [
                replace(t, expected=other.actual, sigma=np.hypot(t.sigma, other.sigma))
                for t, other in ((t, expected[key]) for key, t in actual.items())
            ],
        )

    def judge(self, law: str, pairs: Sequence[Tensors]) -> None:
        """Fail unless rounding explains how these tensors differ."""
        if not pairs:
            pytest.skip("The subject does not expose what this law is about.")
        elements = sum(t.expected.size for t in pairs)
        judge = Judge(self.run.judge.form, limit(FALSE_ALARM, elements, REPLICAS), FALSE_ALARM)
        mode = ModeResult("lock-step")
        mode.add(pairs, judge)
        mode.conclude(judge)
        result = Result(self.case, self.named.name, judge, [mode], [], mode.verdict, mode.reason)
        if mode.verdict is Verdict.INCONCLUSIVE:
            pass_over(mode.reason)
        if not mode.verdict.passes:
            _break(law, result, self.named)
        tally.note(result)

    def method(self, name: str) -> Any:
        """An optional method of the subject; skips where it has none."""
        method = getattr(self.subject, name, None)
        if not callable(method) or name not in getattr(self.subject, "methods", (name,)):
            pytest.skip(f"The subject has no method {name}.")
        return method

    def broken(self, law: str, reason: str) -> NoReturn:
        """Fail for a reason that is no difference of tensors."""
        mode = ModeResult("lock-step", verdict=Verdict.DIVERGED, reason=reason)
        result = Result(self.case, self.named.name, self.run.judge, [mode], [], mode.verdict, reason)
        _break(law, result, self.named)


@contextmanager
def asking(subject: Bound, case: Case) -> Iterator[Questions]:
    """A subject to ask; one that fails breaks the law, and a case without an answer is rejected."""
    try:
        yield Questions(subject, case)
    except NoExpectation as error:
        pass_over(str(error))
    except SubjectError as error:
        if refused_to_make(str(error)):
            pass_over(str(error))
        mode = ModeResult("lock-step", verdict=Verdict.ERROR, reason=str(error))
        judge = Judge(FORMATS["float64"], 0.0, FALSE_ALARM)
        _break("", Result(case, subject.name, judge, [mode], [], mode.verdict, mode.reason), subject)


def _break(law: str, result: Result, subject: Bound) -> NoReturn:
    # No stored case holds several questions, so the command repeats the law, with the example that Hypothesis kept.
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].rpartition("::")[2].partition("[")[0]
    command = shlex.join(["pytest", "--pyargs", "parity.suite", "-k", test, *subject.arguments])
    parts = [f"{result.verdict.value}:", f"{law}:" if law else "", *result.reason.split(), f"Repeat with: {command}"]
    error = error_class(signature(result))(" ".join(part for part in parts if part))
    error.result = result
    tally.note(result)
    raise error


def of(answer: Answer, *quantities: str) -> Answer:
    """The part of an answer that is about these quantities."""
    return {key: t for key, t in answer.items() if key[0] in quantities}


def logits(answer: Answer, document: int, rows: int | None = None) -> Answer:
    """The logits of the first positions of one document, as those of document 0."""
    t = answer.get(("logits", f"document {document}"))
    if t is None:
        return {}
    return {("logits", "document 0"): replace(t, tensor="document 0", **cut(t, rows))}


def cut(t: Tensors, rows: int | None) -> Mapping[str, Any]:
    """The first rows of a tensor."""
    return {"actual": t.actual[:rows], "expected": t.expected[:rows], "sigma": t.sigma[:rows]}


def with_actual(answer: Answer, actual: Floats) -> Answer:
    """An answer of a single tensor, with other values in it."""
    return {key: replace(t, actual=actual) for key, t in answer.items()}
