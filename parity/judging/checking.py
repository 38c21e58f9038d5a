"""The check itself: a subject beside the reference, in lock-step and free-running."""

from typing import Unpack, cast

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.judging.check_options import CheckKeywords, CheckOptions
from parity.judging.diagnosis import ask_again, look_for_a_cause, look_for_precision_loss
from parity.judging.result import Judge, ModeResult, Result
from parity.judging.run import Run
from parity.number_formats import FORMATS
from parity.oracle.noisy_replay import REPLICAS
from parity.subjects.calls import time_limit
from parity.subjects.subject import (
    TWIN,
    Factory,
    Named,
    Subject,
    find_factory,
    is_command,
    make_subject,
    require_methods,
    subject_name,
)
from parity.verdict import Verdict, limit, worst


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
    - isolate (False): run a subject that is named in a process of its own.
    - limits (None, or a `parity.subjects.process.Limits`): seconds for each call, and bytes of memory for a process.
    - progress (none): called with the mode and the number of steps done, after every step.

    A subject that fails gives the verdict ERROR. Raises UsageError where the subject does not exist and for options
    that cannot be together, TypeError for an option that there is not.
    """
    case, given = case or Case.from_names(), CheckOptions.of(options)
    modes, limits = given.modes, given.limits
    instance = not isinstance(subject, (str, type, list, tuple)) and hasattr(subject, "train_step")
    if instance and (given.dtype or given.device or given.isolate):
        raise UsageError(
            "dtype, device and isolate are for a factory to make a subject with; this one is made already."
        )
    run = Run(case, given.sites, given.oracle, given.progress)
    if given.truth:
        from parity.oracle.truth import Truth

        run.truth = Truth(case.config, case.hyper)
    largest = limit(given.false_alarm, run.elements(len(modes)), REPLICAS)
    run.judge = Judge(FORMATS["float64"], largest, given.false_alarm)
    results: list[ModeResult] = []
    named = None if instance else cast("Named", subject)
    own_process = named is not None and (given.isolate or is_command(named))
    factory: Factory | None = None
    with time_limit(limits.seconds if limits and not own_process else None):
        try:
            factory = None if named is None else find_factory(named, given.isolate, limits)
            if factory is None:
                require_methods(subject)
                run.use(cast("Subject", subject))
            else:
                run.use(make_subject(factory, case.config, case.hyper, **given.making))
            if getattr(run.subject, "forward_only", False) is True:
                if "lock-step" not in modes:
                    raise UsageError("The subject only computes forward; it can be checked in lock-step alone.")
                modes = ("lock-step",)
            for mode in modes:
                results.append(ModeResult(mode))
                _run_mode(run, results[-1], factory, given.device)
        except SubjectError as error:
            results = results or [ModeResult(modes[0])]
            results[-1].verdict, results[-1].reason = Verdict.ERROR, str(error)
        finally:
            if own_process and factory is not None:
                factory.close()  # type: ignore[attr-defined]
    lock_step_passed = bool(results) and results[0].mode == "lock-step" and results[0].verdict.passes
    if lock_step_passed and results[-1].verdict is Verdict.DIVERGED and "forward_only" not in results[-1].reason:
        results[-1].reason += (
            " That is in free-running; lock-step agrees, so what is carried from step to step (weights, moments, the "
            "step number) is not what was loaded."
        )
    verdict = worst(result.verdict for result in results)
    reason = next(result.reason for result in results if result.verdict is verdict)
    return Result(case, subject_name(subject), run.judge, results, run.unchecked(), verdict, reason)


def _run_mode(run: Run, result: ModeResult, factory: Factory | None, device: str | None) -> None:
    """One mode, and where it diverged, why."""
    try:
        run.mode(result)
    except NoExpectation as error:
        result.conclude(run.judge)
        if result.verdict is not Verdict.DIVERGED:  # what was found before stays found
            result.verdict, result.reason = Verdict.INCONCLUSIVE, str(error)
    decided = result.verdict is not Verdict.INCONCLUSIVE
    if result.mode == "lock-step" and decided and run.truth is None and ask_again(run, result):
        return
    if result.first_divergence is None:
        return
    if factory is not None:
        look_for_precision_loss(factory, run, result, device)
    if result.verdict is Verdict.DIVERGED:
        look_for_a_cause(run, result)
