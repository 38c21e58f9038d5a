"""Why a subject diverged: what else it was asked, and what its answers have in common with a known cause."""

from dataclasses import replace
from math import inf, isfinite, sqrt

import numpy as np

from parity.errors import NoExpectation, SubjectError, UsageError
from parity.judging.amounts import amount_of
from parity.judging.causes import (
    AnswersChange,
    LosesPrecision,
    NarrowAnswers,
    NarrowRounding,
    NeverUpdated,
    NoAnswer,
    OffByAnAmount,
)
from parity.judging.exchange import Exchange, Run
from parity.judging.location import Place
from parity.judging.pairs import Pairs, same_bits
from parity.judging.trial import Trial
from parity.number_formats import FORMATS, Format
from parity.quantities import STATE
from parity.subjects.subject import Factory, Subject, make_subject, takes_keyword
from parity.verdict import Verdict

_LEAST_Z = 0.05
"""That an answer has in the format in which it was computed; a smaller error is another one's."""


def ask_again(trial: Trial) -> bool:
    """Put a question of a lock-step run a second time, and note whether the answer has the same bits.

    An answer that rounding does not explain makes the verdict DIVERGED, one that has no right answer to be held
    against INCONCLUSIVE. Whether the verdict is due to the second answer.
    """
    exchange, result = trial.diverged or trial.first, trial.result
    if exchange is None:
        return False
    try:
        again = trial.run.ask_again(exchange, explain=trial.diverged is None).pairs
    except (SubjectError, NoExpectation) as error:
        if trial.diverged:  # that it diverged before says more
            return False
        if isinstance(error, SubjectError):
            raise
        result.decide(Verdict.INCONCLUSIVE, NoAnswer.of(error))
        return True
    if again.keys != exchange.pairs.keys:
        raise SubjectError(f"Asked about step {exchange.number} a second time, the subject exposes something else.")
    result.repeatable = same_bits(again, exchange.pairs)
    if result.repeatable or not _changes(trial, exchange, again):
        return False
    before = result.causes if result.verdict is Verdict.DIVERGED else []
    result.decide(Verdict.DIVERGED, *before, AnswersChange(exchange.number))
    return True


def _changes(trial: Trial, exchange: Exchange, again: Pairs) -> bool:
    """Whether rounding does not explain the second answer, or the difference of two that are wrong."""
    judge = trial.run.judge
    if trial.diverged is None:
        return judge.count_outside(again) > 0
    # Both answers have rounding errors of their own, so their difference spreads sqrt(2) times as far.
    return not judge.accepts(again.with_sides(expected=exchange.pairs.actual, sigma=again.sigma * sqrt(2)))


def look_for_precision_loss(factory: Factory, trial: Trial, device: str | None) -> None:
    """Turn DIVERGED into PRECISION LOSS where z stays, and so the error shrinks, in a wider format."""
    run, result, first = trial.run, trial.result, trial.result.first_divergence
    if first is None or not takes_keyword(factory, "dtype"):
        return
    here = run.judge.form
    other = _in_another_format(factory, run, here, device)
    if other is None:
        return
    form, subject = other
    again = Trial(Run(run.case, subject, replace(run.judge, form=form), sites=run.sites), result.mode)
    try:
        again.go(steps=first.step - run.case.state.step + 1)
    except (SubjectError, NoExpectation):
        return
    wider = again.result
    if form.digits > here.digits and wider.location:
        result.wider = Place(wider.location, wider.first_site)
    tensors = again.latest.pairs.by_key() if again.latest else {}
    z_here, z_there = result.first_z, tensors[first.key].largest_z if first.key in tensors else inf
    narrow, wide = (z_here, z_there) if form.digits > here.digits else (z_there, z_here)
    # Of a wrong function, z grows as the noise floor shrinks; an infinite one says nothing of how fast.
    most = narrow * 2.0 ** (abs(form.digits - here.digits) / 2) if isfinite(narrow) else run.judge.limit
    if narrow > run.judge.limit and wide <= most:
        overflows = not (isfinite(first.actual) and isfinite(z_here))
        cause = LosesPrecision(first, run.judge.limit, here.name, form.name, z_there, overflows)
        result.decide(Verdict.PRECISION_LOSS, cause)


def _in_another_format(factory: Factory, run: Run, here: Format, device: str | None) -> tuple[Format, Subject] | None:
    """A wider format that the subject can compute in, or a narrower one."""
    wider = [form for form in FORMATS.values() if form.digits > here.digits]
    narrower = [form for form in FORMATS.values() if form.digits < here.digits]
    for form in [*wider, *narrower]:
        try:
            return form, make_subject(factory, run.case.config, run.case.hyper, dtype=form.name, device=device)
        except (SubjectError, UsageError):
            continue
    return None


def look_for_a_cause(trial: Trial) -> None:
    """Add to the causes what the subject seems to do instead."""
    try:
        cause = narrow_answers(trial) if trial.result.mode == "lock-step" else _never_updated(trial)
    except (SubjectError, NoExpectation):  # the verdict stands without it
        return
    trial.result.causes += [cause] if cause else []
    if trial.result.mode == "lock-step" and trial.diverged and trial.run.truth is None:
        off = amount_of(trial.run, trial.diverged)
        trial.result.causes += [OffByAnAmount(*off)] if off else []


def narrow_answers(trial: Trial) -> NarrowAnswers | NarrowRounding | None:
    """Whether the answers are numbers of a narrower format, every one of them, or rounding in one explains them."""
    assert trial.diverged is not None
    answers = trial.diverged.pairs.of_quantities("logits", "grad").actual
    here = trial.run.judge.form
    for form in sorted(FORMATS.values(), key=lambda form: form.digits):
        if form.digits < here.digits and answers.size and np.array_equal(form.rounded(answers), answers):
            return NarrowAnswers(form.name)
    return _narrow_rounding(trial)


def _narrow_rounding(trial: Trial) -> NarrowRounding | None:
    """Whether what differs in float64 is about what rounding in float32 makes of it."""
    run, diverged, form = trial.run, trial.diverged, FORMATS["float32"]
    if diverged is None or run.judge.form.name != "float64" or run.truth is not None:
        return None
    narrow = Run(run.case, run.subject, replace(run.judge, form=form, storage=None), sites=run.sites)
    pairs = narrow.ask(diverged.expectation.before.state(run.case.config), diverged.batch).pairs
    if pairs.keys != diverged.pairs.keys or not narrow.judge.accepts(pairs):
        return None
    # Its errors as they are: those of answers that were rounded to float32 are at least about as large as its rounding.
    with np.errstate(all="ignore"):
        largest_z = float(np.max((diverged.pairs.error / pairs.sigma)[pairs.sigma > 0], initial=0.0))
    return NarrowRounding(form.name, largest_z) if largest_z >= _LEAST_Z else None


def _never_updated(trial: Trial) -> NeverUpdated | None:
    """Whether a subject that shows no update gives the answer of the weights that were loaded."""
    run, diverged = trial.run, trial.diverged
    assert diverged is not None
    state = run.case.state
    if diverged.number == state.step or {key.quantity for key in diverged.pairs.keys} & {*STATE}:
        return None
    unmoved = run.oracle.expect(run.oracle.start(run.rounded(state)), diverged.batch)
    return NeverUpdated() if run.judge.accepts(run.compared(unmoved, diverged.answer)) else None
