"""How much of a known mistake there is in right answers, where rounding hides it from each element.

α is what was seen along the direction from the reference to the mutant: 0 ± sd in an answer that does not make the
mistake, 1 in one that does. It adds up over elements, documents and steps (`parity.judging.directions`), and excludes
what no element does. A forward or backward mistake is weighed by logits, loss and gradients; one that leaves these
alone by the update, beside what the reference's Adam makes of the subject's own gradient.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import inf
from typing import Any

import numpy as np

from parity.case import Case
from parity.catalogue.mutants import MUTANTS
from parity.errors import NoExpectation, SubjectError
from parity.judging.directions import FORWARD, MISTAKE, Direction, Sums
from parity.judging.evidence import replicas_of
from parity.judging.exchange import Exchange
from parity.judging.excluded import Weighed
from parity.judging.own_updates import own_updates
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.judging.result import Result
from parity.number_formats import FORMATS, Floats, Format
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Expectation, Oracle
from parity.oracle.spread import deviation
from parity.progress import each
from parity.quantities import STATE
from parity.tensors import elements_of, listed_state, named_state, vectors
from parity.verdict import FALSE_ALARM, limit
from reference.config import Config, Hyper

_NOTHING = 100.0
"""Times its own effect up to which rounding would explain a mistake: of it nothing is seen."""

_Make = Callable[[Config, Hyper], Any]
"""Makes a subject."""

_DOCUMENTS, _MANY = 5, 100_000
"""So many documents tell how much one of them weighs; so many elements are compared of them, at most."""

SECONDS = 10.0
"""Of this thread, that weighing the mistakes that are left may take."""


def weigh(result: Result, names: Iterable[str], seconds: float = SECONDS) -> dict[str, Weighed]:
    """How much of some mistakes was seen in the lock-step answers of a case that passed, by name.

    Of a mistake that changes nothing there that could be seen, and of those for which there is no time, nothing is
    said: the steps are gone through from the first on, as far as time allows.
    """
    mode = next((mode for mode in result.modes if mode.mode == "lock-step" and mode.exchanges), None)
    if mode is None:
        return {}
    judge, case, end = result.judge, result.case, time.thread_time() + seconds
    oracle = Oracle(case.config, case.hyper, judge.form, judge.limit, storage=judge.storage)
    sums, documents = Sums(judge.false_alarm, oracle), 0
    mutants = {name: MUTANTS[name].make for name in names}
    for exchange in each("weighing mistakes: steps", mode.exchanges):
        # What was held to the subject's own gates says nothing of them.
        if not exchange.expectation.decided and _weigh_step(oracle, sums, exchange, mutants, end):
            documents += len(exchange.batch)
    return {
        along.direction.tensor: Weighed(along.amount, along.sd, along.shared, along.limit, documents)
        for along in sums.found()
        if along.allowed < _NOTHING
    }


class Scales:
    """What the first documents of a case tell of mistakes in a format: how far from 0 alpha may be in right answers."""

    def __init__(self, case: Case, dtype: str) -> None:
        self._case, form = case, FORMATS[dtype]
        self._oracle = Oracle(case.config, case.hyper, form, limit(FALSE_ALARM, _MANY, REPLICAS))
        self._questions = list(self._asked(form))

    def _asked(self, form: Format) -> Iterator[Exchange]:
        state, config = self._case.state, self._case.config
        for batch in islice(self._case.batches(), _DOCUMENTS):
            tensors = form.rounded(vectors(config, state))
            point = self._oracle.start(named_state(config, tensors, state.step))
            try:
                found = self._oracle.expect(point, batch)
            except NoExpectation:  # as in float16, which has no numbers for some
                return
            lengths = [len(rows) for rows in found.step.logits]
            right = paired(point.number, found.step, found.step, found.sigma, lengths)
            yield Exchange(found, found.step, right, point.exact)
            state = found.after.state(config)

    def weighed(self, make: _Make) -> Weighed | None:
        """Of the mistake that a subject makes; None where it changes nothing that is seen."""
        sums, documents = Sums(FALSE_ALARM, self._oracle), 0
        for exchange in self._questions:
            documents += len(exchange.batch) if _weigh_step(self._oracle, sums, exchange, {"": make}) else 0
        found = [along for along in sums.found() if along.allowed < _NOTHING]
        return Weighed(0.0, found[0].sd, found[0].shared, found[0].limit, documents) if found else None


def _weigh_step(oracle: Oracle, sums: Sums, exchange: Exchange, mutants: Mapping[str, _Make], end: float = inf) -> bool:
    """Take in a question and its answer, and whether that was done; nothing where there is no time left."""
    again, pairs = exchange.expectation, exchange.pairs
    if again.noisy is None:
        try:
            again = oracle.expect(oracle.start(again.before.state(oracle.config)), exchange.batch)
        except NoExpectation:
            return False
        assert again.noisy is not None
    forward = pairs.of_quantities(*FORWARD)
    early, late = list[tuple[Direction, slice, Floats]](), list[tuple[Direction, slice, Floats]]()
    for name, make in mutants.items():
        if time.thread_time() > end:
            return False
        effect = _effect(make, oracle, again, pairs)
        if effect is None:
            continue
        before_update, of_update = effect[: len(forward.actual)], effect[len(forward.actual) :]
        if before_update.any():
            early.append((Direction("", name, MISTAKE), slice(None), before_update))
        else:
            late.append((Direction("param", name, MISTAKE), slice(None), of_update))
    if early:
        replicas = replicas_of(oracle.config, again.noisy, pairs)
        samples = np.concatenate([replicas[quantity] for quantity in forward.layout.groups])
        sums.take(early, forward.actual, forward.expected, forward.sigma, samples)
    # Without its gradient, nobody knows what an update ought to be but for the gradient's rounding.
    if late and exchange.before is not None and {"grad", *STATE} <= set(pairs.layout.groups):
        _take_update(oracle, sums, exchange, late)
    return True


def _take_update(
    oracle: Oracle, sums: Sums, exchange: Exchange, directions: list[tuple[Direction, slice, Floats]]
) -> None:
    """Weigh mistakes in the update, beside the reference's own on the subject's gradient."""
    assert exchange.before is not None
    own, samples, known, _ = own_updates(oracle, exchange.expectation, exchange.pairs, exchange.before)
    update = exchange.pairs.of_quantities(*STATE)
    parts = [(STATE.index(q), elements_of(oracle.config, update.names(q))) for q in update.layout.groups]
    expected = np.concatenate([own[part][elements] for part, elements in parts])
    of_replicas = np.concatenate([samples[part][elements] for part, elements in parts])
    actual = np.where(np.concatenate([known[elements] for _, elements in parts]), update.actual, np.nan)
    sums.take(directions, actual, expected, deviation(of_replicas), of_replicas)


def _effect(make: _Make, oracle: Oracle, expectation: Expectation, pairs: Pairs) -> Floats | None:
    """What a mistake changes in the tensors that are compared, forward first; None where it has no such answer."""
    config, before = oracle.config, expectation.before
    lengths = [len(rows) for rows in expectation.step.logits]
    try:
        with np.errstate(all="ignore"):
            subject = make(config, oracle.hyper)
            subject.load(listed_state(config, before.state(config)))
            answer = subject.train_step(expectation.batch)
            beside = paired(before.number, answer, expectation.step, expectation.sigma, lengths).only(set(pairs.keys))
    except (ArithmeticError, ValueError, LookupError, TypeError, SubjectError):
        return None
    parts = [beside.of_quantities(*quantities) for quantities in (FORWARD, STATE)]
    effect: Floats = np.concatenate([part.actual - part.expected for part in parts])
    return effect if np.isfinite(effect).all() else None
