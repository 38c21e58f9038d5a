"""The check of a case that the scalar graph does not reach."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, isfinite

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UndecidedAnswer, UsageError
from parity.judging.causes import AnswersChange, Failed, LosesPrecision, NoAnswer, OtherRevision
from parity.judging.chain.evidence import Chain
from parity.judging.chain.link import Check, links
from parity.judging.chain.run import REPLICAS, ChainRun
from parity.judging.check_options import CheckOptions
from parity.judging.exchange import quantities_asked, unchecked
from parity.judging.judge import Judge, offered_elements
from parity.judging.mode_result import ModeResult
from parity.judging.moderation import FREEDOM
from parity.judging.result import Result
from parity.number_formats import FORMATS
from parity.subjects.attributes import left_out, warnings
from parity.subjects.subject import (
    Factory,
    Subject,
    has_given_sizes,
    make_subject,
    subject_format,
    subject_storage,
    takes_keyword,
)
from parity.verdict import Verdict, limit

_ONE_BY_ONE = "steps one after another (free-running needs the scalar graph, which does not reach this case)"


def checked_by_chain(
    factory: Factory | None,
    name: str,
    vouch: Check,
    make: Callable[[Case], Subject],
    case: Case,
    options: CheckOptions,
) -> Result:
    """What becomes of a case, in lock-step. vouch: the check beside the scalar graph, which holds the rung."""
    most = limit(options.false_alarm, offered_elements(case), FREEDOM + 1)
    judge = Judge(FORMATS["float64"], most, options.false_alarm)
    result = Result(case, name, judge, [ModeResult("lock-step")], quantities_asked(False))
    run: ChainRun | None = None
    try:
        subject = make(case)
        has_given_sizes(subject)
        result.judge = judge = replace(judge, form=subject_format(subject), storage=subject_storage(subject))
        storage = None if judge.storage is None else judge.storage.name
        result.chain = Chain(judge.form.name, storage, REPLICAS, links(case, vouch, options))
        if result.chain.broken:
            raise NoExpectation(result.chain.broken_reason)
        run = ChainRun(case, subject, judge)
        result.modes = [run.result]
        run.go(options.progress)
        _explain(run, factory, options)
        result.left_out, result.said_by_subject = left_out(subject), warnings(subject)
    except SubjectError as error:
        result.modes[-1].decide(Verdict.ERROR, Failed.of(error))
    except NoExpectation as error:
        result.modes[-1].decide(Verdict.INCONCLUSIVE, NoAnswer.of(error))
    if run is not None:
        result.unchecked = unchecked(case.config, quantities_asked(False), run.exposed)
    result.left_out += (_ONE_BY_ONE,)
    return result


def _explain(run: ChainRun, factory: Factory | None, options: CheckOptions) -> None:
    """What else is to be said of a step that is outside."""
    result = run.result
    if run.changes:
        result.decide(Verdict.DIVERGED, AnswersChange(run.case.state.step))
    if result.first_divergence is None:
        return
    if run.undecided_gates:
        first = result.first_divergence.beside(run.judge.limit)
        raise UndecidedAnswer(
            f"Outside is {first}; but rounding may turn any of {run.undecided_gates} ReLUs in this step, and nobody "
            "saw what the subject did with them."
        )
    if factory is not None:
        _look_for_precision_loss(run, factory, options)
    other = OtherRevision.of(run.case.config, run.case.hyper)
    if other and result.verdict is Verdict.DIVERGED:
        result.causes.append(other)


def _look_for_precision_loss(run: ChainRun, factory: Factory, options: CheckOptions) -> None:
    """Turn DIVERGED into PRECISION LOSS where the same subject is right in a wider format."""
    first, here = run.result.first_divergence, run.judge.form
    assert first is not None
    if not takes_keyword(factory, "dtype"):
        return
    for form in FORMATS.values():
        if form.digits <= here.digits:
            continue
        case = replace(run.case, steps=first.step - run.case.state.step + 1)
        try:
            subject = make_subject(factory, case.config, case.hyper, dtype=form.name, device=options.device)
            wide = ChainRun(case, subject, replace(run.judge, form=form, storage=None))
            wide.go(again=False)
        except (SubjectError, UsageError, NoExpectation):
            continue
        narrow, z = run.result.first_z, wide.largest_z.get(first.key, inf)
        # Of a wrong function, z grows as the noise floor shrinks; an infinite one says nothing of how fast.
        most = narrow * 2.0 ** ((form.digits - here.digits) / 2) if isfinite(narrow) else run.judge.limit
        if z <= most:
            overflows = not (isfinite(first.actual) and isfinite(narrow))
            run.result.decide(
                Verdict.PRECISION_LOSS, LosesPrecision(first, run.judge.limit, here.name, form.name, z, overflows)
            )
        return
