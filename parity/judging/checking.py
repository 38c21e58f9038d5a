"""The check itself: a subject beside the reference, in lock-step and free-running."""

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack, cast

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.judging.causes import Failed, NeverUpdated, NoAnswer, OtherOptimizer, OtherRevision, StateNotCarried
from parity.judging.chain.evidence import RUNG
from parity.judging.check_options import CheckKeywords, CheckOptions
from parity.judging.cost import reached, require_that_the_chain_answers, require_that_the_chain_fits
from parity.judging.diagnosis import ask_again, look_for_a_cause, look_for_precision_loss
from parity.judging.exchange import Run, quantities_asked
from parity.judging.judge import Judge, offered_elements
from parity.judging.mode_result import ModeResult
from parity.judging.probing import Make, with_probes
from parity.judging.result import Result
from parity.judging.trial import Trial
from parity.quantities import STATE
from parity.subjects.attributes import left_out, single_steps, tied_head, warnings, without_update
from parity.subjects.calls import time_limit
from parity.subjects.subject import (
    TWIN,
    Factory,
    Named,
    Subject,
    find_factory,
    has_given_sizes,
    is_command,
    make_subject,
    require_methods,
    subject_format,
    subject_name,
    subject_storage,
)
from parity.verdict import Verdict

if TYPE_CHECKING:
    from parity.judging.true_exchange import TruthJudge

_UPDATES = "updates, and steps one after another (the subject says that it has none)"
TIED_HEAD = "lm_head and wte apart, their updates, and steps one after another (the subject says that they are one)"
"""What is not exercised of a subject without an update, and of one with a tied head."""


def check(
    subject: Subject | Named = TWIN,
    case: Case | None = None,
    **options: Unpack[CheckKeywords],
) -> Result:
    """Compare a subject with the reference, step by step, in every quantity that the subject exposes.

    subject: an object with load and train_step, a factory make(config, hyper), the name of one
    (`package.module:make`, `path/to/file.py:make`), or a command that speaks the protocol, as a list of words. case:
    None for 20 steps of default size on the embedded names.

    Options, all of them keywords that may be left out:

    - modes ("lock-step", "free-running"): in lock-step the subject is set to the reference's state before every step;
      free-running both start equal and run on.
    - sites (False): compare the named intermediates too; where lock-step diverges they are asked for anyway, to say
      where.
    - dtype, device (None: the subject's own): passed to the factory.
    - false_alarm (1e-9): the chance of refusing a correct subject, over all elements.
    - oracle ("replay"): "replay" or "python", which give the same bits.
    - truth (False): judge the subject, and the reference beside it, by a certified enclosure of the exact result; in
      lock-step only.
    - probes (None: where no case is given): check small cases of other sizes, documents, weights and steps besides
      (`parity.judging.probes`).
    - isolate (False): run a subject that is named in a process of its own.
    - limits (None, or a `parity.subjects.process.Limits`): seconds for each call, and bytes of memory for a process.
    - progress (none): called with the mode and the number of steps done, after every step.

    A subject that fails gives the verdict ERROR. Raises UsageError where the subject does not exist and for options
    that cannot be together, TypeError for an option that there is not.
    """
    given = CheckOptions.of(options)
    probed = case is None if given.probes is None else given.probes
    case = case or Case.from_names()
    by_chain = not reached(case, len(given.modes))
    if by_chain:
        require_that_the_chain_answers(given, given.isolate or is_command(cast("Named", subject)))
        require_that_the_chain_fits(case)

    def checked(make: Make, factory: Factory | None) -> Result:
        name = subject_name(subject)
        by_graph = partial(_checked_case, factory, name, case)

        def one(make: Make, asked: Case, options: CheckOptions) -> Result:
            if not by_chain or asked is not case:  # which probes are not
                return by_graph(make, asked, options)
            from parity.judging.chain.checking import checked_by_chain  # it needs torch

            return checked_by_chain(factory, name, partial(_checked_case, None, RUNG, case), make, asked, options)

        return with_probes(one, make, case, given, made=factory is None) if probed else one(make, case, given)

    if not isinstance(subject, (str, type, list, tuple)) and hasattr(subject, "train_step"):
        if given.dtype or given.device or given.isolate:
            raise UsageError(
                "dtype, device and isolate are for a factory to make a subject with; this one is made already."
            )
        with time_limit(given.limits.seconds if given.limits else None):
            return checked(partial(_as_it_is, cast("Subject", subject)), None)
    named = cast("Named", subject)
    own_process = given.isolate or is_command(named)
    with time_limit(given.limits.seconds if given.limits and not own_process else None):
        try:
            factory = find_factory(named, given.isolate, given.limits)
        except SubjectError as error:
            return checked(partial(_raising, error), None)
        try:
            return checked(partial(_made, factory, given), factory)
        finally:
            if own_process:
                factory.close()  # type: ignore[attr-defined]


def _as_it_is(subject: Subject, case: Case) -> Subject:
    require_methods(subject)
    return subject


def _made(factory: Factory, options: CheckOptions, case: Case) -> Subject:
    return make_subject(factory, case.config, case.hyper, **options.making)


def _raising(error: SubjectError, case: Case) -> Subject:
    raise error


def _checked_case(
    factory: Factory | None, name: str, main: Case, make: Make, case: Case, options: CheckOptions
) -> Result:
    """What becomes of one case, in every mode; a subject that fails ends it. main: the case that is no probe."""
    judge = Judge.of_elements(offered_elements(case, len(options.modes), options.sites), options.false_alarm)
    result = Result(case, name, judge, [], quantities_asked(options.sites))
    run: Run | None = None
    try:
        subject = make(case)
        has_given_sizes(subject)  # what it says is to be read before it is needed
        result.judge = replace(judge, form=subject_format(subject), storage=subject_storage(subject))
        truth = _truth_judge(case) if options.truth else None
        run = Run(case, subject, result.judge, oracle=options.oracle, sites=options.sites, truth=truth)
        for mode in _modes(subject, options):
            trial = Trial(run, mode)
            result.modes.append(trial.result)
            _go(trial, factory, options)
            if mode == "lock-step" and case is main:
                _look_at_sites(trial)
        said = [*([TIED_HEAD] if tied_head(subject) else []), *([_UPDATES] if without_update(subject) else [])]
        result.left_out = (*left_out(subject), *said)
        result.said_by_subject = warnings(subject)
    except SubjectError as error:
        result.modes = result.modes or [ModeResult(options.modes[0])]
        result.modes[-1].decide(Verdict.ERROR, Failed.of(error))
    if run is not None:
        result.unchecked = run.unchecked()
    first, last = result.modes[0], result.modes[-1]
    if first.mode == "lock-step" and first.verdict.passes and last.verdict is Verdict.DIVERGED:
        shown = any(quantity in last.quantities for quantity in STATE)
        last.causes += [] if NeverUpdated() in last.causes else [StateNotCarried() if shown else OtherOptimizer()]
    other = OtherRevision.of(case.config, case.hyper, command=name.startswith("-- "))
    for found in result.modes:
        if other and found.verdict is Verdict.DIVERGED:
            found.causes.append(other)
    if factory is not None and result.verdict is not Verdict.ERROR and _may_run_exactly(result, options):
        from parity.judging.exact_arithmetic import look_in_exact_arithmetic  # it needs torch

        look_in_exact_arithmetic(result, make, case, sites=options.sites)
    return result


def _may_run_exactly(result: Result, options: CheckOptions) -> bool:
    """Whether there is a program of PyTorch in this process, whose rounding hides what exact arithmetic shows."""
    short = result.judge.form.name != "float64" and "lock-step" in options.modes and not options.truth
    return short and not options.isolate and "torch" in sys.modules


def _modes(subject: Subject, options: CheckOptions) -> tuple[str, ...]:
    """The modes that were asked for, as far as the subject has them."""
    said = single_steps(subject)
    if not said:
        return tuple(options.modes)
    if "lock-step" not in options.modes:
        raise UsageError(f"The subject says {said} = True; it can be checked in lock-step alone.")
    return ("lock-step",)


def _go(trial: Trial, factory: Factory | None, options: CheckOptions) -> None:
    """One mode, and where it diverged, why."""
    result = trial.result
    try:
        trial.go(progress=options.progress)
    except NoExpectation as error:
        result.conclude(trial.run.judge)
        if result.verdict is not Verdict.DIVERGED:  # what was found before stays found
            result.decide(Verdict.INCONCLUSIVE, NoAnswer.of(error))
    decided = result.verdict is not Verdict.INCONCLUSIVE
    if result.mode == "lock-step" and decided and trial.run.truth is None and ask_again(trial):
        return
    if result.first_divergence is None:
        return
    if factory is not None:
        look_for_precision_loss(factory, trial, options.device)
    if result.verdict is Verdict.DIVERGED:
        look_for_a_cause(trial)


def _look_at_sites(trial: Trial) -> None:
    """Look at a right answer's sites, though nobody asked for them: it is by them that a failure would be placed."""
    result, run = trial.result, trial.run
    if result.verdict.passes and trial.first and not run.sites and run.truth is None:
        sites = run.sites_outside(trial.first, passed=True)
        result.suspected_sites, result.sites_failure = sites.suspected, sites.failure


def _truth_judge(case: Case) -> "TruthJudge":
    try:
        from parity.judging.true_exchange import TruthJudge  # python-flint is needed for nothing else
    except ModuleNotFoundError as error:
        if error.name != "flint":
            raise
        raise UsageError("The truth needs python-flint: pip install 'microgpt-parity[truth]'.") from None
    return TruthJudge(case)
