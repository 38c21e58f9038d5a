"""Checking the probes besides a case: a pass is worth what it exercises."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from parity.case import Case
from parity.errors import UsageError
from parity.judging.check_options import CheckOptions
from parity.judging.probes import Probe, probes_for, probes_of_given_size
from parity.judging.result import ProbeResult, Result
from parity.progress import each
from parity.subjects.subject import Subject, has_given_sizes

_MOST_PARAMETERS = 20_000
"""Of a model whose sizes are given, beyond which probes of that size would take longer than the case itself."""

Make = Callable[[Case], Subject]
Check = Callable[[Make, Case, CheckOptions], Result]


def with_probes(check: Check, make: Make, case: Case, options: CheckOptions, *, made: bool) -> Result:
    """A case and, where it passes, the probes: at sizes of their own, or of the size that the subject has.

    check: of one case. made: the subject is there already, and has but one size.
    """
    subjects: list[Subject] = []

    def remembered(case: Case) -> Subject:
        subjects.append(make(case))
        return subjects[-1]

    result = check(remembered, case, options)
    if not result.verdict.passes:
        return result
    quiet = replace(options, sites=False, truth=False, progress=lambda mode, steps: None)
    given, form = made or has_given_sizes(subjects[0]), result.judge.form.name
    if not given:
        result.probes = _checked(check, make, probes_for(case.config, case.hyper, form), quiet)
    else:
        result.probes = [ProbeResult(probe, None) for probe in probes_for(case.config, case.hyper, form)]
    if any(found.refused for found in result.probes):
        own = probes_of_own_size(case, form)
        if own is not None:
            result.probes += _checked(check, make, own, quiet)
        else:
            result.left_out += (f"other weights and documents in a model of more than {_MOST_PARAMETERS:,} parameters",)
    return result


def probes_of_own_size(case: Case, form: str) -> tuple[Probe, ...] | None:
    """What a subject is asked that refuses probes of other sizes; None where that would take too long."""
    if case.config.num_params() > _MOST_PARAMETERS:
        return None
    return probes_of_given_size(case.config, case.hyper, form)


def _checked(check: Check, make: Make, probes: Sequence[Probe], options: CheckOptions) -> list[ProbeResult]:
    return [_checked_probe(check, make, probe, options) for probe in each("probes", probes)]


def _checked_probe(check: Check, make: Make, probe: Probe, options: CheckOptions) -> ProbeResult:
    """What becomes of a probe.

    There is no result where no such model can be made, as where a name map fits one size alone, and where one that is
    made says of itself what cannot be together with the options.
    """
    made = False

    def noted(case: Case) -> Subject:
        nonlocal made
        subject = make(case)
        made = True
        return subject

    try:
        return ProbeResult(probe, check(noted, probe.case, options))
    except UsageError as error:
        return ProbeResult(probe, None, str(error), made)
