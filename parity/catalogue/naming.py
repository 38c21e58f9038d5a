"""Which known mistake a wrong answer fits: the reference with each of them is asked the same question."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.case import Case
from parity.catalogue.mutant_noise import NoisyMutant
from parity.catalogue.mutants import ALL, STAGES, Mutant
from parity.catalogue.mutants.mutant import MutantSubject
from parity.errors import SubjectError, UsageError
from parity.judging.exchange import Exchange
from parity.judging.judge import Judge
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.judging.probes import probes_for
from parity.judging.relu_gates import SHORT_DIGITS
from parity.judging.result import Result
from parity.quantities import FIELDS, SITES, STATE
from parity.tensors import listed_state
from parity.trees import listed
from parity.verdict import Verdict
from reference.config import State, Step

SECONDS = 10.0
"""Of this thread, whatever else the machine does, that naming a mistake may take."""
_FEW_PRODUCTS = 5_000
"""Weights times positions of a question that is small enough to be put to every mutant."""
_MANY_PRODUCTS = 100_000
"""Those of one that is too large to be put to any: beyond a document of default size, or some."""

_NOT_IN = {
    "logits": ("loss", "backward", "Adam", "schedule"),
    "loss": ("backward", "Adam", "schedule", "embedding", "norm", "attention", "cache", "MLP", "layers", "head"),
    "grad": ("Adam", "schedule"),
    **dict.fromkeys(STATE, tuple(stage for stage in STAGES if stage not in ("Adam", "schedule", "loop"))),
}
"""By the first quantity that is wrong, those before it being right, the stages that a mistake is not in."""

_NEAR = 100
"""A first look, at the reference's noise floor, is content with so many times the limit: a mutant has its own."""
_NEAR_IN_SHORT_FORMATS = 3
"""Where the floor is so wide that more would pass them all."""
_MOST = 0.9
"""Of the elements of every quantity that are that near."""


Again = Callable[[Case], Result]
"""Checks the same subject on another case."""


def name_mistakes(result: Result, again: Again | None = None, seconds: float = SECONDS) -> None:
    """Note in a result that diverged the known mistakes that it fits, or that looking for them takes too long.

    again: to ask the subject in small models, where it takes them, which is sooner than to put a large question to
    every mutant; what fits there must fit the question at which it diverged, too, unless that is very large.
    """
    question = _question(result) if result.verdict is Verdict.DIVERGED else None
    if question is None:
        return
    asked, judge = question
    deciding, end = replace(result.deciding, judge=judge), time.thread_time() + seconds
    products, fitting = _products(deciding, asked), None
    if again and products > _FEW_PRODUCTS:
        fitting = _fitting_in_a_small_model(deciding, again, end)
    if products <= _MANY_PRODUCTS:
        fitting = _fitting(deciding, asked, ALL if fitting is None else fitting, end)
    if fitting is None:
        result.naming_hint = (
            f"Looking for a known mistake was given up after {seconds:.0f} s; the small cases that `parity vectors "
            "DIR` writes tell `parity verify` which one it is."
        )
    else:
        result.mistakes = {mutant.name: mutant.mistake for mutant in fitting}


def _question(result: Result) -> tuple[Exchange, Judge] | None:
    """The question of a step that diverged first, from a state that was loaded, and its judge; None where is none.

    Where it was put in exact arithmetic, too, it is that one, which sees most.
    """
    deciding = result.deciding
    asked = [(mode, mode.diverged) for mode in deciding.modes if mode.diverged]
    fitting = [(mode, x) for mode, x in asked if mode.mode == "lock-step" or x.number == deciding.case.state.step]
    fitting.sort(key=lambda pair: pair[0].judge is None)
    return next(((found, mode.judge or deciding.judge) for mode, found in fitting), None)


def _products(result: Result, asked: Exchange) -> int:
    """How much work a question is: weights times positions."""
    return result.case.config.num_params() * sum(map(len, asked.expectation.step.logits))


def _fitting_in_a_small_model(result: Result, again: Again, end: float) -> list[Mutant] | None:
    """The mutants whose answer a subject gives in the first probe in which it diverges; None where it does in none."""
    small = probes_for(result.case.config, result.case.hyper, result.judge.form.name)
    for probe in sorted(small, key=lambda probe: probe.case.config.num_params() * len(probe.case.documents)):
        try:
            found = again(probe.case)
        except UsageError:  # as where a name map fits one size alone
            return None
        question = _question(found) if found.verdict is Verdict.DIVERGED else None
        if found.verdict is Verdict.ERROR or time.thread_time() > end:
            return None
        if question is not None:
            asked, judge = question
            return _fitting(replace(found, judge=judge), asked, ALL, end)
    return None


def _fitting(result: Result, asked: Exchange, mutants: Sequence[Mutant], end: float) -> list[Mutant] | None:
    """Those of the mutants whose answer it is; None where that would take longer."""
    answered = [quantity for quantity in FIELDS.values() if quantity not in SITES]
    pairs = asked.pairs.of_quantities(*answered)
    first = result.judge.first_outside(pairs)
    if first is None:
        return []
    early = [quantity for quantity in answered if quantity in ("logits", "loss", "grad")]
    pairs = pairs.of_quantities(*(early if first.quantity in early else answered))
    before = early[: early.index(first.quantity)] if first.quantity in early else early
    shown = {key.quantity for key in pairs.keys}.issuperset(before)
    not_in = _NOT_IN.get(first.quantity, ()) if shown else ()
    found = []
    for mutant in mutants:
        if mutant.stage in not_in:
            continue
        if time.thread_time() > end:
            return None
        found += [mutant] if _is_near(result, asked, pairs, mutant) and _fits(result, asked, pairs, mutant) else []
    return found


def _is_near(result: Result, asked: Exchange, pairs: Pairs, mutant: Mutant) -> bool:
    """Whether a mutant's answer is one that its own noise floor may explain, which takes longer to learn."""
    judge, case = result.judge, result.case
    near = judge.limit * (_NEAR_IN_SHORT_FORMATS if judge.form.digits <= SHORT_DIGITS else _NEAR)
    subject = mutant.make(case.config, case.hyper)
    logits = pairs.of_quantities("logits")
    with np.errstate(all="ignore"):
        try:
            if logits.keys and mutant.subject is MutantSubject:
                found = _beside(logits, asked, Step(logits=_logits(subject, asked)))
                if not np.nanmedian(found.z) <= near:
                    return False
            subject.load(_state(asked, case))
            found = _beside(pairs, asked, subject.train_step(asked.batch))
        except (ArithmeticError, ValueError, LookupError, TypeError, SubjectError):
            return False  # it has no answer, or one of another shape
        # Of each quantity: a loss is one element, and where it alone is wrong all else fits nearly every mutant.
        return all(np.mean(found.of_quantities(name).z <= near) > _MOST for name in found.layout.groups)


def _logits(subject: MutantSubject, asked: Exchange) -> list[Any]:
    """What a mutant gives for every document, without what comes after it."""
    model, config = subject.model, subject.config
    params = listed(dict(asked.expectation.before.state(config).params))
    values = {name: model.elementwise(model.Value, matrix) for name, matrix in params.items()}
    _, logits = model.without_gc(model.batch_loss)(asked.batch, values, config)
    return [model.elementwise(lambda logit: logit.data, rows) for rows in logits]


def _fits(result: Result, asked: Exchange, pairs: Pairs, mutant: Mutant) -> bool:
    """Whether rounding explains all that is between an answer and a mutant's."""
    case, state = result.case, _state(asked, result.case)
    noisy, exact = NoisyMutant(mutant, case.config, case.hyper, result.judge.form), mutant.make(case.config, case.hyper)
    try:
        noisy.load(state)
        values, sigma = noisy.train_step(asked.batch)
    except (AttributeError, TypeError):  # some do what such numbers cannot
        exact.load(state)
        values, sigma = exact.train_step(asked.batch), None
    except (ArithmeticError, ValueError, LookupError):
        return False
    return result.judge.accepts(_beside(pairs, asked, values, sigma))


def _state(asked: Exchange, case: Case) -> State:
    return listed_state(case.config, asked.expectation.before.state(case.config))


def _beside(pairs: Pairs, asked: Exchange, mutant: Step, sigma: Step | None = None) -> Pairs:
    """An answer's tensors beside those of a mutant; sigma None: at the reference's noise floor."""
    lengths = [len(rows) for rows in asked.expectation.step.logits]
    other = paired(asked.number, mutant, mutant, sigma or mutant, lengths).only(set(pairs.keys))
    if other.layout.entries != pairs.layout.entries:
        raise SubjectError("The mutant answers something else.")
    return pairs.with_sides(expected=other.expected, sigma=pairs.sigma if sigma is None else other.sigma)
