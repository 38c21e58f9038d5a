"""Doing an item: its cases are drawn from its seed by Hypothesis and put to the subject; what is found is kept."""

import io
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings, target

from parity.campaign.drawing import DRAWS, exercised
from parity.campaign.item import CALIBRATE, MUTANTS, Item, code_of, revision
from parity.campaign.ledger import case_digest
from parity.campaign.outcome import CAUGHT, MISSED, OUT_OF_RANGE, CaseOutcome, Comparison, Outcome
from parity.case import Case
from parity.catalogue.detection import AskedCase
from parity.catalogue.mutants import ALL, EQUIVALENT
from parity.catalogue.remembering import RememberingMutant
from parity.errors import NoExpectation, UsageError
from parity.judging.causes import LosesPrecision
from parity.judging.checking import check
from parity.judging.exact_arithmetic import EXACT
from parity.judging.result import Result
from parity.subjects.process import Limits
from parity.subjects.subject import Named, find_factory, is_command
from parity.testing.assertions import error_class, signature
from parity.verdict import Verdict

_SHRINKING_SECONDS = 120.0
"""After which a failing case is taken as it is: what fails may take long."""
_HIGHEST = 1e6
_GUIDED_TOWARDS = "z as a part of the limit"


@dataclass(frozen=True)
class Task:
    """An item to be done. shrink: a signature, of which a case is to be made small."""

    item: Item
    shrink: str = ""


def do(task: Task) -> Outcome:
    """Do it; UsageError where there is no such subject, or not the one that was meant. What it prints is dropped."""
    started, spent = time.perf_counter(), [0.0]
    _require_the_same(task.item)
    ask = _question(task)
    found: list[CaseOutcome] = []

    def asked(case: Case) -> CaseOutcome:
        begun = time.perf_counter()
        outcome = ask(case)
        spent[0] += time.perf_counter() - begun
        if outcome.signature:
            outcome.case = case.to_json()
        found.append(outcome)
        return outcome

    with redirect_stdout(io.StringIO()), _draws_alike():
        if task.shrink:
            found = _smallest(task, asked)
        else:
            _draw(task.item, asked)
            if task.item.guided:
                _keep_the_extreme(task.item, found)
    name = f"{socket.gethostname()}:{os.getpid()}"
    return Outcome(found, time.perf_counter() - started, spent[0], name)


@contextmanager
def _draws_alike() -> Iterator[None]:
    """Have a seed draw the same in every process.

    Hypothesis also draws constants that stand in modules of the user's own, in those that happen to be imported by
    then, and has no setting against it.
    """
    try:
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants
    except ImportError:  # a version that does not
        yield
        return
    if not hasattr(providers, "_get_local_constants"):  # one that does it otherwise, as a test will tell
        yield
        return
    providers.CONSTANTS_CACHE.cache.clear()
    try:
        with patch.object(providers, "_get_local_constants", Constants):
            yield
    finally:
        providers.CONSTANTS_CACHE.cache.clear()


def _require_the_same(item: Item) -> None:
    """UsageError where this process has other code than the one that made the item: its outcome would be another's."""
    if (revision(), code_of(item.kind, item.subject)) != (item.revision, item.code):
        raise UsageError(
            f"{socket.gethostname()} has another version of microgpt-parity, of a package that it computes with, or of "
            f"{item.subject}; or its file has been changed meanwhile."
        )


def _settings(item: Item, *phases: Phase) -> settings:
    aims = (Phase.target,) if item.guided else ()
    return settings(
        max_examples=item.cases,
        phases=(Phase.generate, *aims, *phases),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )


def _draw(item: Item, ask: Callable[[Case], CaseOutcome]) -> None:
    """The cases of an item, one after another."""

    def one(case: Case) -> None:
        outcome = ask(case)
        outcome.case = outcome.case or (case.to_json() if item.guided else "")
        if item.guided:
            target(_height(item, outcome), label=_GUIDED_TOWARDS)

    seed(item.seed)(_settings(item)(given(case=DRAWS[item.draw])(one)))()


def _height(item: Item, outcome: CaseOutcome) -> float:
    """What guided drawing climbs: how near right subjects come to the limit, or how little known mistakes exceed it.

    A case in which a mistake does not show at all is no extreme of it.
    """
    closeness = min(outcome.closeness, _HIGHEST) if not math.isnan(outcome.closeness) else 0.0
    if item.kind != MUTANTS:
        return closeness
    return -closeness if closeness > 1 else -_HIGHEST


def _keep_the_extreme(item: Item, found: list[CaseOutcome]) -> None:
    """Of all cases that guided drawing came by, keep that at the top, and what failed."""
    top = max(found, key=lambda outcome: _height(item, outcome), default=None)
    for outcome in found:
        outcome.extreme = outcome is top
        if outcome is not top and not outcome.signature:
            outcome.case = ""


def _smallest(task: Task, ask: Callable[[Case], CaseOutcome]) -> list[CaseOutcome]:
    """The smallest case found that fails with the signature; none where the item's cases do not fail so any more."""
    found: list[CaseOutcome] = []
    until = time.monotonic() + _SHRINKING_SECONDS
    failure = error_class((task.shrink,))

    def one(case: Case) -> None:
        if found and time.monotonic() > until:
            return
        outcome = ask(case)
        if task.item.guided and not found:  # the same way up
            target(_height(task.item, outcome), label=_GUIDED_TOWARDS)
        if outcome.signature == task.shrink:
            if not found or len(outcome.case) <= len(found[0].case):
                found[:] = [outcome]
            raise failure

    try:
        seed(task.item.seed)(_settings(task.item, Phase.shrink)(given(case=DRAWS[task.item.draw])(one)))()
    except failure:
        pass
    except Exception:  # Hypothesis calls a case flaky that time ran out for
        if not found:
            raise
    return found


def _question(task: Task) -> Callable[[Case], CaseOutcome]:
    """What is asked of a case."""
    item = task.item
    if item.kind == MUTANTS:
        mutant, dtype = _mutant(item.subject), item.dtype or "float64"
        return lambda case: _mutant_outcome(mutant, case, dtype)
    named = _found(item.subject)
    limits = Limits(item.seconds)
    return lambda case: checked_outcome(
        item, check(named, case, dtype=item.dtype or None, probes=False, limits=limits), case
    )


@cache
def _found(subject: str) -> Named:
    """The factory so named; a command as it is, for each check starts it anew."""
    if is_command(subject):
        return subject
    factory = find_factory(subject)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # processes take the cores
    return cast("Named", factory)


def checked_outcome(item: Item, result: Result, case: Case) -> CaseOutcome:
    """What is kept of a check; what a right subject's format cannot hold is told from refusals in a calibration."""
    if result.unsupported:  # it has no such model, and says so
        return _case_outcome(case, [])
    right = any(mode.mode == EXACT and mode.verdict.passes for mode in result.modes)
    comparisons = []
    for mode in result.modes:
        elements = sum(row.compared for row in mode.quantities.values())
        z = max((row.largest_z.z for row in mode.quantities.values() if row.largest_z), default=0.0)
        # That the function is right has to be seen otherwise: a right one has numbers in float64.
        lost = any(isinstance(cause, LosesPrecision) and cause.overflows for cause in mode.causes)
        beyond = item.kind == CALIBRATE and right and lost
        verdict = OUT_OF_RANGE if beyond else mode.verdict.value
        comparisons.append(Comparison(mode.mode, verdict, float(z), float(result.judge.limit), elements))
    found = _case_outcome(case, comparisons)
    if any(one.refused for one in comparisons):
        found.reason, found.signature = result.reason, ", ".join(signature(result))
    elif result.verdict is Verdict.INCONCLUSIVE:
        found.reason = result.reason
    return found


def _case_outcome(case: Case, comparisons: list[Comparison]) -> CaseOutcome:
    config = case.config
    sizes = (config.n_layer, config.n_embd, config.n_head, config.block_size, config.vocab_size)
    return CaseOutcome(case_digest(case.to_json()), sizes, tuple(exercised(case)), tuple(comparisons))


@cache
def _mutant(name: str) -> RememberingMutant:
    return RememberingMutant(next(mutant for mutant in (*ALL, *EQUIVALENT) if mutant.name == name))


def _mutant_outcome(mutant: RememberingMutant, case: Case, dtype: str) -> CaseOutcome:
    """Whether a mistake shows in a case, mode by mode, by twice the limit, as in `parity mutants`."""
    comparisons = []
    mutant.known.clear()  # what it remembers is of other cases
    try:
        asked = AskedCase(case, dtype, as_far=True)
    except NoExpectation:
        return _case_outcome(case, [])
    subject: Any = mutant.make(case.config, case.hyper)
    for mode, questions in asked.modes.items():
        z, elements, caught = 0.0, 0, False
        for question in questions:
            pairs = asked.answered(subject, question)
            caught = caught or pairs is None or bool(asked.outside(pairs))
            if pairs is None:
                z = float("inf")
                break
            # A z that is NaN says that the noise floor is not finite: there, nobody knows.
            z, elements = max(z, float(np.fmax.reduce(pairs.z, initial=0.0))), elements + len(pairs.z)
        comparisons.append(Comparison(mode, CAUGHT if caught else MISSED, z, asked.limit, elements))
    return _case_outcome(case, comparisons)
