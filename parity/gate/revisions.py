"""Head and base: how their answers to the same questions differ."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UnsupportedModel
from parity.gate.fingerprint import Fingerprint
from parity.judging.element_errors import ULPS, Z
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge, offered_elements
from parity.judging.pairs import Difference, Pairs
from parity.judging.probes import probes_for
from parity.judging.result import Result
from parity.options import MODES
from parity.quantities import FIELDS
from parity.subjects.attributes import single_steps
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import train_step
from parity.tensors import listed_state
from reference.config import State, Step


@dataclass
class Changed:
    """How the answers of head and base differ in one quantity."""

    quantity: str
    compared: int = 0
    different: int = 0
    outside: int = 0
    ulps: float = 0.0
    largest: Difference | None = None
    """By z, over the noise floor of both."""


class Revisions:
    """Head and base, step by step: in lock-step with the noise floor between them, and free-running bit by bit.

    head: the check of head, whose case and probes both are asked for. fingerprints: take them, too.
    """

    def __init__(self, head: Result, fingerprints: bool = False) -> None:
        self.head, self.judge = head, head.judge
        self.takes_fingerprints = fingerprints
        self.fingerprints: dict[str, Fingerprint] = {}
        """By question: the case, or the name of a probe."""
        self._fingerprint = Fingerprint()
        self.changed: dict[str, Changed] = {}
        self.first: Difference | None = None
        """The first element on which they differ by more than rounding, in lock-step."""
        self.drift: Difference | None = None
        """The same, free-running."""
        self.limits = {"lock-step": head.judge.limit, "free-running": head.judge.limit}
        """By mode, the largest z that was allowed where that element lies."""
        self.carries = True
        """Whether head runs freely as it does from the states that it exposes, where that matters."""
        self.far = False
        """Whether they differ by more than the widest noise floor of a tensor."""
        self.failure = ""
        self.dropped: list[str] = []
        """Quantities that base exposes and head does not."""
        self.formats = ("", "")
        self.probes: list[str] = []
        """The probes that were compared, too."""

    @property
    def rows(self) -> list[Changed]:
        """By quantity, in the order of a step."""
        return [self.changed[q] for q in FIELDS.values() if q in self.changed]

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        same = bool(self.changed) and not any(row.different for row in self.changed.values())
        return same and not self.dropped and not self.failure and self.formats[0] == self.formats[1]

    def compare(self, head: Command, base: Command, options: dict[str, str | None], *, probes: bool) -> None:
        """Ask both for every step of the case, and of the probes that they have models for, twice over."""
        case, judge = self.head.case, self.head.judge
        try:
            self._compare("case", case, judge, head, base, options)
        except NoExpectation as error:
            self.failure = str(error)
        except SubjectError as error:
            self.failure = f"At base: {error}"
        if not probes or self.failure:
            return
        for probe in probes_for(case.config, case.hyper, judge.form.name):
            of_probe = Judge.of_elements(offered_elements(probe.case, len(MODES)), judge.false_alarm, judge.form)
            try:
                asking = replace(of_probe, storage=judge.storage)
                self._compare(probe.name, probe.case, asking, head, base, options)
                self.probes.append(probe.name)
            except (UnsupportedModel, NoExpectation):
                continue
            except SubjectError as error:
                self.failure = f"In the probe {probe.name}: {error}"
                return

    def _compare(
        self, name: str, case: Case, judge: Judge, head: Command, base: Command, options: dict[str, str | None]
    ) -> None:
        new, old = (side(case.config, case.hyper, **options) for side in (head, base))
        run = Run(case, new, judge)
        self.judge, self.formats = judge, (new.dtype, old.dtype)
        drift, self._fingerprint = self.drift, Fingerprint()
        for mode in ("lock-step",) if single_steps(new) else MODES:
            self._go(run, old, mode)
        if self.drift is not drift:
            self.carries &= _carries(run)
        if self.takes_fingerprints:
            self.fingerprints[name] = self._fingerprint

    def _go(self, run: Run, old: CommandSubject, mode: str) -> None:
        latest: Exchange | None = None
        for number, batch in enumerate(run.case.batches(), run.case.state.step):
            if latest is not None and mode == "free-running":
                exchange = run.go_on(latest, batch, explain=False)
            else:
                state = run.rounded(run.case.state if latest is None else latest.after.state(run.case.config))
                exchange = run.ask(state, batch, explain=False)
                old.load(listed_state(run.case.config, state))
            before = train_step(old, batch, f"step {number}, at base")
            self._note_dropped(exchange.answer, before)
            head = _shared(exchange.answer, before)
            pairs = run.paired(exchange.expectation, head, before, exchange.expectation.sigma)
            # Both sides round, so their difference spreads sqrt(2) times as far as one of them.
            pairs = pairs.with_sides(sigma=pairs.sigma * sqrt(2))
            self._add(pairs, mode)
            if self.takes_fingerprints:
                self._fingerprint.add(pairs, exchange.pairs, self.judge.limit, MODES.index(mode))
            latest = exchange

    def _note_dropped(self, actual: Step, expected: Step) -> None:
        for name, quantity in FIELDS.items():
            new, old = getattr(actual, name), getattr(expected, name)
            gone = [quantity] if new is None and old is not None else []
            if isinstance(new, dict) and isinstance(old, dict):
                gone = [f"{quantity} {tensor}" for tensor in old if tensor not in new]
            self.dropped += [what for what in gone if what not in self.dropped]

    def _add(self, pairs: Pairs, mode: str) -> None:
        outside = self.judge.first_outside(pairs)
        if outside and (self.drift if mode == "free-running" else self.first) is None:
            self.limits[mode] = self.judge.limit
        if mode == "free-running":
            self.drift = self.drift or outside
        else:
            self.first = self.first or outside
        found = self.judge.measures(pairs)
        for group, quantity in enumerate(pairs.layout.groups):
            row = self.changed.setdefault(quantity, Changed(quantity))
            row.compared += found.elements[group]
            row.different += found.unequal[group]
            row.ulps = max(row.ulps, found.sizes[group][ULPS])
            if mode == "free-running":
                continue  # there both have drifted to points of their own, and the floor is that of the reference's
            row.outside += found.outside[group]
            if found.elements[group] and (row.largest is None or not found.sizes[group][Z] <= row.largest.z):
                row.largest = pairs.at(found.places[group][Z], self.judge.form)
        for tensor in pairs if mode == "lock-step" else ():
            # Of a function other than the reference's, no element's floor is known, only about how large they are.
            widest = float(np.max(tensor.sigma, initial=0.0, where=np.isfinite(tensor.sigma)))
            self.far |= bool(np.any(~(tensor.error <= self.judge.limit * widest)))


def _shared(actual: Step, expected: Step) -> Step:
    """Of head's step, fields that base exposes, and of these the tensors that base exposes."""

    def kept(field: str) -> Any:
        new, old = getattr(actual, field), getattr(expected, field)
        if not isinstance(new, dict) or not isinstance(old, dict):
            return new
        return {name: tensor for name, tensor in new.items() if name in old} or None

    return Step(**{field: kept(field) for field in FIELDS})


def _carries(run: Run) -> bool:
    """Whether a subject runs freely as it does from the states that it exposes: then lock-step says it all."""
    free: list[tuple[State, Step]] = []
    subject, batches, shapes = run.subject, list(run.case.batches()), run.case.config.shapes()
    subject.load(listed_state(run.case.config, run.rounded(run.case.state)))
    for number, batch in enumerate(batches, run.case.state.step):
        step = run.answer(number, batch)
        if not all(isinstance(part, dict) and len(part) == len(shapes) for part in (step.params, step.m, step.v)):
            return False  # what is not exposed cannot be loaded
        free.append((State(step.params, step.m, step.v, number + 1), step))
    for (state, _), (_, expected), batch in zip(free, free[1:], batches[1:]):
        subject.load(state)
        if vars(run.answer(state.step, batch)) != vars(expected):
            return False
    return True
