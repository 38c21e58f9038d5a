"""Head and base: how their answers to the same questions differ."""

from dataclasses import dataclass, replace
from math import sqrt

from parity.case import Case
from parity.errors import NoExpectation, SubjectError, UnsupportedModel, UsageError
from parity.gate.exposure import Exposure, shared
from parity.gate.fingerprint import Fingerprint
from parity.gate.floor import floor_of, widened
from parity.judging.element_errors import ULPS, Z
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge, offered_elements
from parity.judging.location import Location, locate
from parity.judging.pairs import Difference, Pairs
from parity.judging.probes import Probe, probes_for
from parity.judging.probing import probes_of_own_size
from parity.judging.result import Result
from parity.options import MODES
from parity.progress import each
from parity.quantities import FIELDS
from parity.subjects.attributes import single_steps
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import train_step
from parity.tensors import listed_state
from reference.config import State, Step


@dataclass
class Changed:
    """How the answers of head and base differ in one quantity, in lock-step.

    different: elements with other bits. outside: those of them that rounding does not explain. free_running: elements
    with other bits there, where both have drifted to points of their own.
    """

    quantity: str
    compared: int = 0
    different: int = 0
    outside: int = 0
    ulps: float = 0.0
    largest: Difference | None = None
    """By z, over the noise floor of both."""
    largest_in: str = ""
    """The name of the probe that it is of; empty for the case."""
    limit: float = 0.0
    """The largest z that was allowed there."""
    free_running: int = 0


@dataclass
class First:
    """Where two sides differ by more than rounding for the first time."""

    difference: Difference
    """actual: head, expected: base."""
    limit: float
    """The largest z that was allowed there."""
    probe: Probe | None
    """That it is of; None for the case."""
    location: Location | None = None
    """In lock-step: tensor by tensor, what head has as base does."""


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
        self.first: First | None = None
        """In lock-step."""
        self.drift: First | None = None
        """Free-running."""
        self.carries = True
        """Whether head runs freely as it does from the states that it exposes, where that matters."""
        self.far = False
        """Whether they differ by more than the widest noise floor of a tensor."""
        self.newly_outside: First | None = None
        """Of what head exposes and base does not, where it differs from the reference first (actual: head)."""
        self.failure = ""
        self.exposure = Exposure()
        self.formats = ("", "")
        self.probes: list[Probe] = []
        """Those that both were asked for."""
        self._probe: Probe | None = None

    @property
    def rows(self) -> list[Changed]:
        """By quantity, in the order of a step."""
        return [self.changed[q] for q in FIELDS.values() if q in self.changed]

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        same = bool(self.changed) and not any(row.different or row.free_running for row in self.changed.values())
        return same and not self.exposure.dropped and not self.failure and self.formats[0] == self.formats[1]

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
        refused = self.exposure.has_given_sizes
        for probe in () if refused else each("probes", probes_for(case.config, case.hyper, judge.form.name)):
            refused |= not self._compare_probe(probe, head, base, options)
        own = (probes_of_own_size(case, judge.form.name) or ()) if refused else ()
        for probe in each("probes of the same size", own):
            self._compare_probe(probe, head, base, options)

    def _compare_probe(self, probe: Probe, head: Command, base: Command, options: dict[str, str | None]) -> bool:
        """Whether both have a model for it."""
        if self.failure:
            return True
        case, judge = probe.case, self.head.judge
        of_probe = Judge.of_elements(offered_elements(case, len(MODES)), judge.false_alarm, judge.form)
        self._probe = probe
        try:
            new, old = (_made(side, case, options) for side in (head, base))
            if new and old:
                self._compare(probe.name, case, replace(of_probe, storage=judge.storage), new, old)
                self.probes.append(probe)
            elif old:
                self.exposure.dropped.append(f"the model of the probe {probe.name}")
            return bool(new and old)
        except NoExpectation:
            return True
        except SubjectError as error:
            self.failure = f"In the probe {probe.name}: {error}"
            return True

    def _compare(self, name: str, case: Case, judge: Judge, new: CommandSubject, old: CommandSubject) -> None:
        self.exposure.note_claims(new, old)
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
        batches = each(f"{mode}: steps", list(run.case.batches()))
        for number, batch in enumerate(batches, run.case.state.step):
            if latest is not None and mode == "free-running":
                exchange = run.go_on(latest, batch, explain=False)
            else:
                state = run.rounded(run.case.state if latest is None else latest.after.state(run.case.config))
                exchange = run.ask(state, batch, explain=False)
                old.load(listed_state(run.case.config, state))
            before = train_step(old, batch, f"step {number}, at base")
            self.exposure.note_dropped(exchange.answer, before)
            self._add(run, exchange, before, mode)
            latest = exchange

    def _add(self, run: Run, exchange: Exchange, before: Step, mode: str) -> None:
        """Take in what both answered to one question. before: base's answer."""
        expectation, config = exchange.expectation, run.case.config
        pairs = run.paired(expectation, shared(exchange.answer, before), before, expectation.sigma)
        base = run.paired(expectation, before, expectation.step, expectation.sigma)
        of_base, of_head = (floor_of(answer, expectation.before.exact, config) for answer in (base, exchange.pairs))
        # Both sides round, so their difference spreads sqrt(2) times as far as one of them.
        pairs, by_base, by_both = (
            one.with_sides(sigma=one.sigma * sqrt(2))
            for one in (pairs, widened(pairs, of_base), widened(pairs, of_base, of_head))
        )
        if mode == "lock-step":
            self.far |= not self.judge.accepts(by_base)
        # Where base is the reference, every element's floor is known, and else only how far a tensor may round.
        is_reference = self.judge.accepts(base)
        self._compare_elements(run, exchange, pairs if is_reference else by_base, mode)
        self._note_newly_outside(exchange.pairs, pairs)
        if self.takes_fingerprints:
            both, alone = (by_both, widened(exchange.pairs, of_head))
            if is_reference and self.judge.accepts(exchange.pairs):
                both, alone = pairs, exchange.pairs
            self._fingerprint.add(both, alone, self.judge.limit, MODES.index(mode))

    def _note_newly_outside(self, of_head: Pairs, shared: Pairs) -> None:
        new = set(of_head.keys) - set(shared.keys)
        if new and self.newly_outside is None:
            outside = self.judge.first_outside(of_head.only(new))
            self.newly_outside = First(outside, self.judge.limit, self._probe) if outside else None

    def _compare_elements(self, run: Run, exchange: Exchange, pairs: Pairs, mode: str) -> None:
        known = self.first if mode == "lock-step" else self.drift
        outside = None if known else self.judge.first_outside(pairs)
        if outside and mode == "lock-step":
            where = locate(run, replace(exchange, pairs=pairs))
            self.first = First(outside, self.judge.limit, self._probe, where)
        elif outside:
            self.drift = First(outside, self.judge.limit, self._probe)
        found = self.judge.measures(pairs)
        for group, quantity in enumerate(pairs.layout.groups):
            row = self.changed.setdefault(quantity, Changed(quantity))
            if mode == "free-running":
                row.free_running += found.unequal[group]
                continue
            row.compared += found.elements[group]
            row.different += found.unequal[group]
            row.ulps = max(row.ulps, found.sizes[group][ULPS])
            row.outside += found.outside[group]
            if found.elements[group] and (row.largest is None or not found.sizes[group][Z] <= row.largest.z):
                row.largest, row.limit = pairs.at(found.places[group][Z], self.judge.form), self.judge.limit
                row.largest_in = self._probe.name if self._probe else ""


def _made(side: Command, case: Case, options: dict[str, str | None]) -> CommandSubject | None:
    """A side with a model for a case; None where it has none."""
    try:
        return side(case.config, case.hyper, **options)
    except (UnsupportedModel, UsageError):
        return None


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
