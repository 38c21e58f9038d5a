"""What the laws are made of: asking a subject, comparing what it said, and failing in one line."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import currently_in_test_context, reject

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UnsupportedModel
from parity.judging.causes import EarlierOutside, Failed, LawBroken
from parity.judging.checking import check
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge, offered_elements
from parity.judging.mode_result import ModeResult
from parity.judging.pairs import Pairs, joined
from parity.judging.result import Result
from parity.number_formats import FORMATS, Floats
from parity.oracle.oracle import Expectation
from parity.quantities import FIELDS, SITES, TensorKey
from parity.subjects.subject import subject_dtype
from parity.suite.bound import Bound
from parity.testing.assertions import STORE, error_class, parity_error, signature
from parity.testing.strategies import configs
from parity.testing.tally import tally
from parity.verdict import FALSE_ALARM, Verdict
from reference.config import State

QUANTITIES = tuple(quantity for quantity in FIELDS.values() if quantity not in SITES)

SMALL_MODELS = configs(max_layer=2, max_embd=8, max_block=6)
"""Models that are large enough for every mistake, and small enough to ask a subject many questions."""


def agrees(subject: Bound, case: Case, *quantities: str, mode: str = "lock-step") -> None:
    """Fail unless these quantities are the reference's, whatever becomes of the others; to be used in properties.

    Skips where the subject exposes none of them; rejects a case in which nothing can be decided.
    """
    result = check(subject, case, modes=(mode,))
    (found,) = result.modes
    if not found.steps and (result.verdict is Verdict.INCONCLUSIVE or result.unsupported):
        _pass_over(result.reason)
    if result.verdict is Verdict.ERROR:
        tally.note(result)
        _refuse(result, subject, mode)
    if not set(quantities) - set(result.unchecked):
        pytest.skip(f"The subject does not expose {' or '.join(quantities)}.")
    about = only(result, quantities)
    tally.note(about)
    if about.verdict is Verdict.INCONCLUSIVE:
        _pass_over(about.reason)
    if not about.verdict.passes:
        _refuse(about, subject, mode)


def _pass_over(reason: str) -> NoReturn:
    """Decide nothing: another case is drawn, and a law for which none is left fails; outside of properties, skip."""
    if currently_in_test_context():
        reject()
    pytest.skip(reason)


def _refuse(result: Result, subject: Bound, mode: str) -> NoReturn:
    options = {**subject.options, "modes": (mode,)}
    raise parity_error(result, signature(result), STORE, options)


def only(result: Result, quantities: Sequence[str]) -> Result:
    """The result as if the subject had been asked for these quantities alone, in the one mode that was run."""
    (mode,) = result.modes
    rows = {quantity: row for quantity, row in mode.quantities.items() if quantity in quantities}
    if mode.first_divergence and mode.first_divergence.quantity in rows:
        return result
    outside = [row.first_outside for row in rows.values() if row.first_outside]
    about = ModeResult(mode.mode, mode.steps, rows, outside[0] if outside else None)
    about.conclude(result.judge)
    if outside and mode.first_divergence:
        about.causes.append(EarlierOutside(mode.first_divergence))
    return replace(result, modes=[about])


Answer = dict[TensorKey, Pairs]
"""By key, each tensor alone: what the subject said, the noise floor, and what the reference says (expected)."""


class Questions:
    """A subject that is set to a state before every question, on the models of one case."""

    def __init__(self, subject: Bound, case: Case) -> None:
        self.named, self.case = subject, case
        self.subject: Any = subject(case.config, case.hyper)
        judge = Judge.of_elements(offered_elements(case), FALSE_ALARM, FORMATS[subject_dtype(self.subject)])
        self.run = Run(case, self.subject, judge)
        self.latest: Exchange | None = None

    def load(self) -> None:
        """Set the subject to the case's state."""
        self.run.load(self.run.rounded(self.case.state))

    def expected(self, batch: list[list[int]]) -> Expectation:
        """What the reference says to one step from the case's state; NoExpectation where it has no answer."""
        return self.run.oracle.expect(self.run.oracle.start(self.run.rounded(self.case.state)), batch)

    def step(self, batch: list[list[int]], state: State | None = None) -> Answer:
        """What the subject says to one step from a state (None: the case's).

        A ReLU within the noise floor of its kink may fall to either side in each answer: its whole effect counts as
        noise. NoExpectation where the reference has no answer.
        """
        self.latest = exchange = self.run.ask(state or self.case.state, batch, explain=False)
        expectation, pairs = exchange.expectation, exchange.pairs
        sigma = pairs.sigma
        for gate, nearness in expectation.near.items():
            turned = self.run.oracle.exact_step(expectation.before, batch, {gate: not nearness.natural})
            if turned is not None:
                other = self.run.paired(expectation, exchange.answer, turned, expectation.sigma)
                sigma = np.hypot(sigma, other.with_sides(actual=pairs.expected).error)
        return {key: self.with_own_floor(t, pairs) for key, t in pairs.with_sides(sigma=sigma).by_key().items()}

    def reference_logits(self) -> Answer:
        """The reference's own logits of the latest question, as an answer."""
        assert self.latest is not None
        expectation = self.latest.expectation
        return of(self.run.compared(expectation, expectation.step).by_key(), "logits")

    def with_own_floor(self, t: Pairs, answer: Pairs) -> Pairs:
        """The tensor; where it is not the reference's, with a noise floor for another function.

        A floor for every element is known of the reference alone. Another function, whose values may be large where
        the reference's are 0, is granted that of the quantity as a whole, in proportion to its own values. That it
        is another function is for other laws to say.
        """
        if not self.run.judge.count_outside(t):
            return t
        same = [other for other in answer.of_quantities(t.keys[0].quantity) if other.expected.any()]
        ratios = [np.max(other.sigma) / np.max(np.abs(other.expected)) for other in same]
        size = np.max(np.abs(t.actual), initial=0.0, where=np.isfinite(t.actual))
        own = size * max(ratios, default=self.run.judge.form.u)
        return t.with_sides(sigma=np.hypot(t.sigma, own))

    def same(self, law: str, actual: Answer, expected: Answer) -> None:
        """Fail unless rounding explains how two answers differ; skip where there is nothing to compare.

        Both have rounding errors of their own, so the squares of their noise floors add up. Raises SubjectError where
        one answer exposes something that the other does not.
        """
        if actual.keys() - expected.keys():
            changed = ", ".join(sorted({key.quantity for key in actual.keys() - expected.keys()}))
            raise SubjectError(f"The subject exposes {changed} in one answer and not in another.")
        parts = [
            t.with_sides(expected=expected[key].actual, sigma=np.hypot(t.sigma, expected[key].sigma))
            for key, t in actual.items()
        ]
        self.judge(law, parts)

    def judge(self, law: str, parts: Sequence[Pairs]) -> None:
        """Fail unless rounding explains how these tensors differ."""
        if not parts:
            pytest.skip("The subject does not expose what this law is about.")
        pairs = joined(parts[0].step, parts)
        judge = Judge.of_elements(pairs.expected.size, FALSE_ALARM, self.run.judge.form)
        mode = ModeResult("lock-step")
        mode.add(pairs, judge)
        mode.conclude(judge)
        result = Result(self.case, self.named.name, judge, [mode], [])
        if mode.verdict is Verdict.INCONCLUSIVE:
            _pass_over(mode.reason)
        if not mode.verdict.passes:
            _break(law, result, self.named)
        tally.note(result)

    def method(self, name: str) -> Any:
        """An optional method of the subject; skips where it has none."""
        method = getattr(self.subject, name, None)
        if not callable(method) or name not in getattr(self.subject, "methods", (name,)):
            pytest.skip(f"The subject has no method {name}.")
        return method

    def broken(self, law: str, finding: str) -> NoReturn:
        """Fail for a reason that is no difference of tensors."""
        mode = ModeResult("lock-step", verdict=Verdict.DIVERGED, causes=[LawBroken(finding)])
        _break(law, Result(self.case, self.named.name, self.run.judge, [mode], []), self.named)


@contextmanager
def asking(subject: Bound, case: Case) -> Iterator[Questions]:
    """A subject to ask; one that fails breaks the law, and a case without an answer is rejected."""
    try:
        yield Questions(subject, case)
    except NoExpectation as error:
        _pass_over(str(error))
    except UnsupportedModel as error:
        _pass_over(str(error))
    except SubjectError as error:
        mode = ModeResult("lock-step", verdict=Verdict.ERROR, causes=[Failed(str(error))])
        judge = Judge(FORMATS["float64"], 0.0, FALSE_ALARM)
        _break("", Result(case, subject.name, judge, [mode], []), subject)


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
    return {key: t for key, t in answer.items() if key.quantity in quantities}


def logits(answer: Answer, document: int, rows: int | None = None, place: int = 0) -> Answer:
    """The logits of the first positions of one document, as those of a document in another place."""
    t = answer.get(TensorKey("logits", "logits", document))
    if t is None:
        return {}
    key, (_, columns) = TensorKey("logits", "logits", place), t.shape
    size = t.expected.size if rows is None else min(t.expected.size, rows * columns)
    sides = ([side[:size]] for side in (t.actual, t.expected, t.sigma))
    return {key: Pairs.of(t.step, [(key, (size // columns, columns))], *sides)}


def with_actual(answer: Answer, actual: Floats) -> Answer:
    """An answer of a single tensor, with other values in it."""
    return {key: t.with_sides(actual=actual.ravel()) for key, t in answer.items()}
