"""Judging by the truth: an answer, and the reference beside it, by a certified enclosure of the exact result."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation
from parity.judging.judge import offered_elements, positions
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.number_formats import FORMATS
from parity.oracle.oracle import NATURALLY, Expectation, Oracle, Point
from parity.oracle.truth import NOISY_RUNS, Enclosure, Truth
from parity.verdict import limit
from reference.config import State, Step

if TYPE_CHECKING:
    from parity.judging.exchange import Exchange, Run

_SUBJECT, _REFERENCE, _APART = "subject", "reference", "apart"
"""The columns: the subject against the truth, the reference against the truth, and one against the other."""


class TruthJudge:
    """Exchanges in which the truth is expected, not what the reference makes of it in floats."""

    def __init__(self, case: Case) -> None:
        self.case, self._truth = case, Truth(case.config, case.hyper)

    def exchange(self, run: "Run", point: Point, batch: list[list[int]], *, explain: bool) -> "Exchange":
        """A step of the subject beside the truth, from a state that both sides were set to."""
        answer = run.answer(point.number, batch)
        try:
            expectation = run.oracle.expect(point, batch)
        except NoExpectation as error:
            return self._without_reference(run, point, batch, answer, str(error).rstrip("."))
        state, lengths = point.state(self.case.config), self._lengths(batch)
        enclosure = self._truth.enclosure(state, batch, expectation.sigma)
        sigma = expectation.sigma
        if run.judge.form.name != "float64":  # which the reference computes in
            oracle = Oracle(self.case.config, self.case.hyper, FORMATS["float64"], run.judge.limit)
            sigma = oracle.expect(oracle.start(state), batch).sigma
        reference = paired(point.number, expectation.step, enclosure.high, sigma, lengths)
        columns = {_REFERENCE: _from_truth(reference, enclosure, lengths)}
        pairs = run.paired(expectation, answer, enclosure.high, expectation.sigma)
        # Gates that rounding turns, and updates of its own, are explained by the reference, not by the truth.
        other = run.judged(expectation, answer, point.exact, explain=explain and run.judge.count_outside(pairs) > 0)
        columns[_APART] = other.pairs
        explained = other.turned_gates > 0 or other.own_updates > 0
        legitimate = explained and run.judge.count_outside(pairs) > 0 and not run.judge.count_outside(other.pairs)
        columns[_SUBJECT] = other.pairs if legitimate else _from_truth(pairs, enclosure, lengths)
        return replace(other, pairs=other.pairs if legitimate else pairs, truth=columns)

    def _without_reference(
        self, run: "Run", point: Point, batch: list[list[int]], answer: Step, failure: str
    ) -> "Exchange":
        """Where floats overflow or underflow on the way, and exact numbers do not."""
        state = point.state(self.case.config)
        enclosure = self._truth.enclosure(state, batch, None)
        # A floor from fewer runs than usual, so that more is allowed.
        fewer = limit(run.judge.false_alarm, offered_elements(self.case), NOISY_RUNS) / run.judge.limit
        sigma = self._truth.spread(state, batch, run.judge.form, fewer)
        high = enclosure.high
        after = run.oracle.start(State(high.params, high.m, high.v, point.number + 1))
        expectation = Expectation(point, batch, high, sigma, {}, NATURALLY, after)
        exchange = run.judged(expectation, answer, None, explain=False)
        columns = {_SUBJECT: _from_truth(exchange.pairs, enclosure, self._lengths(batch))}
        return replace(exchange, truth=columns, reference_failure=failure)

    def _lengths(self, batch: list[list[int]]) -> list[int]:
        return [positions(self.case, tokens) for tokens in batch]


def _from_truth(pairs: Pairs, enclosure: Enclosure, lengths: Sequence[int]) -> Pairs:
    """How far tensors that were compared with the enclosure's high part are from the exact values, 0 being expected."""
    low = paired(pairs.step, enclosure.low, enclosure.low, enclosure.radius, lengths).only(set(pairs.keys))
    error = (pairs.actual - pairs.expected) - low.actual
    return pairs.with_sides(actual=error, expected=np.zeros_like(error))
