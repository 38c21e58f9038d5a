"""Head and base as a pair: how their answers to the same questions differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError
from parity.judging.pairs import Difference, Tensors
from parity.judging.result import Result
from parity.judging.run import Run
from parity.quantities import FIELDS
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import train_step
from reference.config import State, Step


@dataclass
class Changed:
    """How the answers of head and base differ in one quantity. largest: by z, over the noise floor of both."""

    quantity: str
    compared: int = 0
    different: int = 0
    outside: int = 0
    ulps: float = 0.0
    largest: Difference | None = None


class Pair:
    """Head and base, step by step: in lock-step with the noise floor between them, and free-running bit by bit."""

    def __init__(self, case: Case, head: Result) -> None:
        self.case, self.judge = case, head.judge
        self.changed: dict[str, Changed] = {}
        self.first: Difference | None = None
        self.drift: Difference | None = None
        self.carries = True
        self.far = False
        self.failure = ""
        self.dropped: list[str] = []
        self.formats = ("", "")

    @property
    def rows(self) -> list[Changed]:
        """By quantity, in the order of a step."""
        return [self.changed[q] for q in FIELDS.values() if q in self.changed]

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        same = bool(self.changed) and not any(row.different for row in self.changed.values())
        return same and not self.dropped and not self.failure and self.formats[0] == self.formats[1]

    def compare(self, head: Command, base: Command, options: dict[str, str | None]) -> None:
        """Ask both for every step, twice over."""
        run = Run(self.case, False, "replay")
        run.judge = self.judge
        new = head(self.case.config, self.case.hyper, **options)
        run.use(new)
        try:
            old = base(self.case.config, self.case.hyper, **options)
            self.formats = (new.dtype, old.dtype)
            for mode in ("lock-step",) if new.forward_only else ("lock-step", "free-running"):
                self._run(run, new, old, mode)
            if self.drift is not None:
                self.carries = _carries(run, new)
        except NoExpectation as error:
            self.failure = str(error)
        except SubjectError as error:
            self.failure = f"At base: {error}"

    def _run(self, run: Run, new: CommandSubject, old: CommandSubject, mode: str) -> None:
        state = run.in_format(self.case.state)
        for number, batch in enumerate(self.case.batches()):
            if mode == "lock-step" or not number:
                run.load(state)
                old.load(state)
            step = self.case.state.step + number
            actual = run.answer(step, batch)
            expected = train_step(old, batch, f"step {step}, at base")
            run.expected(step, batch)
            sigma, _ = run.floor.train_step(batch, self.judge.limit)
            if mode == "lock-step":
                state = run.in_format(run.oracle.state)
            self._note_dropped(actual, expected)
            self._add(run.paired(step, batch, actual, expected, sigma), mode)

    def _note_dropped(self, actual: Step, expected: Step) -> None:
        for name, quantity in FIELDS.items():
            gone = getattr(actual, name) is None and getattr(expected, name) is not None
            if gone and quantity not in self.dropped:
                self.dropped.append(quantity)

    def _add(self, pairs: Iterable[Tensors], mode: str) -> None:
        for t in pairs:
            row = self.changed.setdefault(t.quantity, Changed(t.quantity))
            row.compared += t.expected.size
            row.different += int(np.count_nonzero(t.actual.view(np.int64) != t.expected.view(np.int64)))
            row.ulps = max(row.ulps, float(self.judge.form.ulp_distance(t.actual, t.expected).max(initial=0.0)))
            # Both sides round, so their difference spreads sqrt(2) times as far as one of them.
            both = Tensors(t.step, t.quantity, t.tensor, t.actual, t.expected, t.sigma * sqrt(2))
            z = np.where(np.isnan(both.z), -1.0, both.z)
            outside = z > self.judge.limit
            if outside.any() and mode == "free-running" and self.drift is None:
                self.drift = both.at(int(np.argmax(outside)), self.judge.form)
            if mode == "free-running":
                continue  # there both have drifted to points of their own, and the floor is that of the reference's
            row.outside += int(np.count_nonzero(outside))
            if z.size and (row.largest is None or not z.max() <= row.largest.z):
                row.largest = both.at(int(np.argmax(z)), self.judge.form)
            # Of a function other than the reference's, no element's floor is known, only about how large they are.
            widest = float(np.max(both.sigma, initial=0.0, where=np.isfinite(both.sigma)))
            self.far |= bool(np.any(~(both.error <= self.judge.limit * widest)))
            if outside.any() and self.first is None:
                self.first = both.at(int(np.argmax(outside)), self.judge.form)


def _carries(run: Run, subject: CommandSubject) -> bool:
    """Whether a subject runs freely as it does from the states that it exposes: then lock-step says it all."""
    free: list[tuple[State, Step]] = []
    run.load(run.in_format(run.case.state))
    for number, batch in enumerate(run.case.batches(), run.case.state.step):
        step = run.answer(number, batch)
        if step.params is None or step.m is None or step.v is None:
            return False
        free.append((State(step.params, step.m, step.v, number + 1), step))
    for (state, _), (_, expected), batch in zip(free, free[1:], list(run.case.batches())[1:]):
        subject.load(state)
        if vars(run.answer(state.step, batch)) != vars(expected):
            return False
    return True
