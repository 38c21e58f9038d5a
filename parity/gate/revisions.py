"""Head and base: how their answers to the same questions differ."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UnsupportedModel, UsageError
from parity.gate.fingerprint import Fingerprint
from parity.judging.element_errors import ULPS, Z
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge, offered_elements
from parity.judging.pairs import Difference, Pairs
from parity.judging.probes import Probe, probes_for
from parity.judging.probing import probes_of_own_size
from parity.judging.result import Result
from parity.options import MODES
from parity.quantities import FIELDS
from parity.subjects.attributes import single_steps, tied_head, without_update
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import has_given_sizes, train_step
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
        self._has_given_sizes = False
        self.carries = True
        """Whether head runs freely as it does from the states that it exposes, where that matters."""
        self.far = False
        """Whether they differ by more than the widest noise floor of a tensor."""
        self.newly_outside: Difference | None = None
        """Of what head exposes and base does not, the first element that differs from the reference."""
        self.failure = ""
        self.dropped: list[str] = []
        """What base is held to and head is not: quantities, single tensors of one, and what head says it is without."""
        self.given_up: list[str] = []
        """What base says that its function is, and head no longer does: then they are two functions."""
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

    def compare(self, head: Command, base: Command, options: dict[str, str | None], *, probes: bool) -> None:
        """Ask both for every step of the case, and of the probes that they have models for, twice over."""
        case, judge = self.head.case, self.head.judge
        try:
            self._compare("case", case, judge, *(side(case.config, case.hyper, **options) for side in (head, base)))
        except NoExpectation as error:
            self.failure = str(error)
        except SubjectError as error:
            self.failure = f"At base: {error}"
        if not probes or self.failure:
            return
        # As a check has it: other sizes, and where they are refused, other cases of the same size.
        refused = self._has_given_sizes
        for probe in () if refused else probes_for(case.config, case.hyper, judge.form.name):
            refused |= not self._compare_probe(probe, head, base, options)
        for probe in (probes_of_own_size(case, judge.form.name) or ()) if refused else ():
            self._compare_probe(probe, head, base, options)

    def _compare_probe(self, probe: Probe, head: Command, base: Command, options: dict[str, str | None]) -> bool:
        """Whether both have a model for it."""
        if self.failure:
            return True
        case, judge = probe.case, self.head.judge
        of_probe = Judge.of_elements(offered_elements(case, len(MODES)), judge.false_alarm, judge.form)
        try:
            new, old = (_made(side, case, options) for side in (head, base))
            if new and old:
                self._compare(probe.name, case, replace(of_probe, storage=judge.storage), new, old)
            elif old:
                self.dropped.append(f"the model of the probe {probe.name}")
            return bool(new and old)
        except NoExpectation:
            return True
        except SubjectError as error:
            self.failure = f"In the probe {probe.name}: {error}"
            return True

    def _compare(self, name: str, case: Case, judge: Judge, new: CommandSubject, old: CommandSubject) -> None:
        self._note_claims(new, old)
        run = Run(case, new, judge)
        self.judge, self.formats = judge, (new.dtype, old.dtype)
        drift, self._fingerprint = self.drift, Fingerprint()
        for mode in ("lock-step",) if single_steps(new) or single_steps(old) else MODES:
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
            self._note_newly_outside(exchange.pairs, pairs)
            if self.takes_fingerprints:
                self._fingerprint.add(pairs, exchange.pairs, self.judge.limit, MODES.index(mode))
            latest = exchange

    def _note_newly_outside(self, of_head: Pairs, shared: Pairs) -> None:
        new = set(of_head.keys) - set(shared.keys)
        if new and self.newly_outside is None:
            self.newly_outside = self.judge.first_outside(of_head.only(new))

    def _note_claims(self, new: CommandSubject, old: CommandSubject) -> None:
        """What the subject says that it is without, on one side alone."""
        now, before = _claims(new), _claims(old)
        self._has_given_sizes = "sizes" in {**now, **before}
        self.dropped += [what for kind, what in now.items() if kind not in before and what not in self.dropped]
        gone = [what for kind, what in before.items() if kind not in now and kind != "sizes"]
        self.given_up += [what for what in gone if what not in self.given_up]

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


def _claims(subject: CommandSubject) -> dict[str, str]:
    """By kind, what a subject says that it is without, so that it is held to less."""
    update = without_update(subject)
    claims = {"update": f"updates (it says {update} = True)"} if update else {}
    if tied_head(subject):
        claims["head"] = "lm_head and wte apart (it says tied_head = True)"
    if has_given_sizes(subject):
        claims["sizes"] = 'other sizes (it says sizes = "given")'
    return claims


def _made(side: Command, case: Case, options: dict[str, str | None]) -> CommandSubject | None:
    """A side with a model for a case; None where it has none."""
    try:
        return side(case.config, case.hyper, **options)
    except (UnsupportedModel, UsageError):
        return None


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
