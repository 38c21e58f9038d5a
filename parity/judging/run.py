"""One subject beside one oracle on one case, step by step."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError
from parity.judging.own_updates import ORDER, adopted, judged
from parity.judging.pairs import Difference, Pairs, Tensors, paired
from parity.judging.relu_gates import early, turned
from parity.judging.result import Judge, ModeResult, TruthResult
from parity.number_formats import FORMATS, Floats, Format
from parity.oracle.expected import Oracle, make_oracle
from parity.oracle.floor import Floor, Kink, Nearness, Point, site_elements
from parity.quantities import FIELDS, SITES
from parity.subjects.calls import guarded
from parity.subjects.subject import Subject, subject_dtype, train_step
from parity.tensors import flat, listed_state, named_state, vectors
from parity.verdict import limit
from reference.config import State, Step

if TYPE_CHECKING:
    from parity.oracle.truth import Truth

Progress = Callable[[str, int], None]


@dataclass
class Asked:
    """A question that was put to the subject, from the state that both sides had been set to, and its answer."""

    state: State
    batch: list[list[int]]
    expected: Step
    sigma: Step
    pairs: Sequence[Tensors]


class Run:
    """One subject and one oracle on one case."""

    judge: Judge
    subject: Subject
    truth: "Truth | None" = None
    previous: Floats | None = None
    sides: tuple[Step, Step]
    """What was expected of the latest step, and its noise floor."""
    first: Asked | None = None
    """The first question of the latest lock-step run."""
    diverged: Asked | None = None
    """The question whose answer diverged first in the latest run; its state is known in lock-step only."""

    def __init__(self, case: Case, sites: bool, oracle: str, progress: Progress = lambda mode, steps: None) -> None:
        self.case, self.sites, self.progress = case, sites, progress
        self.oracle: Oracle = make_oracle(oracle, case.config, case.hyper)
        self.exposed: set[tuple[str, str]] | None = None
        self.latest: Sequence[Tensors] = []

    def elements(self, modes: int) -> int:
        """How many elements the case offers for comparison."""
        lengths = [self.positions(tokens) for batch in self.case.batches() for tokens in batch]
        one = 1 + 4 * self.case.config.num_params()
        documents = sum(
            n * self.case.config.vocab_size + (site_elements(self.case.config, n) if self.sites else 0) for n in lengths
        )
        return modes * (self.case.steps * one + documents)

    def positions(self, tokens: Sequence[int]) -> int:
        """How many positions of a document count."""
        return min(self.case.config.block_size, len(tokens) - 1)

    def use(self, subject: Subject, form: Format | None = None) -> None:
        """Take this subject, and the noise floor of its number format (or of another one)."""
        self.subject = subject
        form = form or FORMATS[subject_dtype(subject)]
        self.judge = Judge(form, self.judge.limit, self.judge.false_alarm)
        self.floor = Floor(self.case.config, self.case.hyper, form)
        self.expose_sites(self.sites)

    def expose_sites(self, expose: bool) -> None:
        """Have all sides yield their sites, or not."""
        self.oracle.expose_sites = self.floor.expose_sites = expose
        if hasattr(self.subject, "expose_sites"):
            self.subject.expose_sites = expose

    def mode(self, result: ModeResult, steps: int | None = None) -> None:
        """Run one mode to its end, or for some steps."""
        state = named_state(self.case.config, self.rounded(self.case.state), self.case.state.step)
        self.first = self.diverged = None
        self.load(state)
        for batch in list(self.case.batches())[:steps]:
            if result.mode == "lock-step" and result.steps:
                state = named_state(self.case.config, self.rounded(self.oracle.state), self.oracle.number)
                self.load(state)
            diverged = result.first_divergence is not None
            self.latest = self.step(result, batch)
            asked = Asked(state, batch, *self.sides, self.latest)
            self.first = self.first or asked
            result.add(self.latest, self.judge)
            if result.first_divergence and not diverged:
                self.diverged = asked
                first = next(t for t in self.latest if t.key == result.first_divergence.key)
                result.first_z = largest_z(first)
                if result.mode == "lock-step":
                    after = self.oracle.state
                    result.first_site = self.locate(state, batch)
                    self.oracle.load(after)
            self.progress(result.mode, result.steps)
        result.conclude(self.judge)

    def ask_again(self, asked: Asked) -> Pairs:
        """The pairs of a question that was put before, with the answer that the subject gives now."""
        self.load(asked.state)
        answer = self.answer(asked.state.step, asked.batch)
        return self.paired(asked.state.step, asked.batch, answer, asked.expected, asked.sigma)

    def rounded(self, state: State) -> Floats:
        """Parameters, m and v, (3, elements), in numbers that both sides can represent."""
        tensors = self.judge.form.rounded(vectors(self.case.config, state))
        if not np.isfinite(tensors).all():
            raise NoExpectation(f"The weights of step {state.step} are too large for {self.judge.form.name}.")
        return tensors

    def in_format(self, state: State) -> State:
        """The state in numbers that both sides can represent, as fresh lists."""
        return listed_state(self.case.config, self.rounded(state), state.step)

    def load(self, state: State) -> None:
        """Set both sides; the subject gets lists of its own, so that it cannot change the reference's."""
        self.oracle.load(state)
        self.floor.load(state)
        self.previous = vectors(self.case.config, state)
        guarded(f"load before step {state.step}", lambda: self.subject.load(self.in_format(state)))

    def step(self, result: ModeResult, batch: list[list[int]]) -> Sequence[Tensors]:
        """One step on both sides, side by side."""
        number = self.oracle.number
        if self.truth is not None:
            return self.true_step(result, batch)
        before = self.floor.point
        expected = self.expected(number, batch)
        sigma, kinks = self.floor.train_step(batch, self.judge.limit, exact=self.oracle.latest)
        actual = self.answer(number, batch)
        self.sides = expected, sigma
        pairs = self.paired(number, batch, actual, expected, sigma)
        pairs = Pairs.of(self.explained(result, before, batch, actual, pairs, kinks))
        self.note_exposed(result, number, pairs)
        exposed = all(getattr(actual, part, None) is not None for part in ("params", "m", "v"))
        self.previous = np.array([pairs.actual[pairs.place(quantity)] for quantity in ORDER]) if exposed else None
        return pairs

    def expected(self, number: int, batch: list[list[int]]) -> Step:
        """The oracle's step; NoExpectation where it is not made of finite numbers."""
        step = self.oracle.train_step(batch)
        tensors = [step.loss, *step.logits]
        tensors += [flat(self.case.config, part) for part in (step.grads, step.params, step.v)]
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise NoExpectation(f"The reference itself computes infinities or NaN at step {number}.")
        return step

    def true_step(self, result: ModeResult, batch: list[list[int]]) -> Sequence[Tensors]:
        """One step of the subject beside the truth, with what the reference and both to each other are noted."""
        assert self.truth is not None
        number, state = self.oracle.number, self.oracle.state
        result.truth = result.truth or TruthResult()
        actual, before = self.answer(number, batch), self.floor.point
        sigma, kinks = self.floor.train_step(batch, self.judge.limit)
        other: Sequence[Tensors] | None = None
        lengths = [self.positions(tokens) for tokens in batch]
        try:
            expected = self.expected(number, batch)
        except NoExpectation as error:
            result.truth.failures.append(str(error).rstrip("."))
            enclosure = self.truth.enclosure(state, batch, None)
            sigma = self.truth.spread(
                state, batch, self.judge.form, self.limit_of(self.truth.noisy_runs) / self.judge.limit
            )
            high = enclosure.high
            self.oracle.load(State(high.params, high.m, high.v, number + 1))
        else:
            enclosure = self.truth.enclosure(state, batch, sigma)
            reference_sigma = sigma
            if self.judge.form.name != "float64":
                floor = Floor(self.case.config, self.case.hyper, FORMATS["float64"])
                floor.load(state)
                reference_sigma, _ = floor.train_step(batch, self.judge.limit)
            reference = self.paired(number, batch, expected, enclosure.high, reference_sigma)
            result.truth.add(result.truth.reference, enclosure.errors(reference, lengths))
            apart = self.paired(number, batch, actual, expected, sigma)
            if self.outside(self.paired(number, batch, actual, enclosure.high, sigma)):
                other = self.explained(result, before, batch, actual, apart, kinks)
            result.truth.add(result.truth.apart, other or apart)
        self.sides = enclosure.high, sigma
        pairs: Sequence[Tensors] = self.paired(number, batch, actual, enclosure.high, sigma)
        if other is not None and not self.outside(other):
            pairs = other
        result.truth.add(result.truth.subject, pairs if pairs is other else enclosure.errors(pairs, lengths))
        self.note_exposed(result, number, pairs)
        return pairs

    def note_exposed(self, result: ModeResult, number: int, pairs: Sequence[Tensors]) -> None:
        """Keep what was exposed; SubjectError where something is no longer, which would go unchecked unnoticed."""
        exposed = set(Pairs.of(pairs).exposed)
        if self.exposed is not None and exposed != self.exposed:
            changed = ", ".join(sorted({quantity for quantity, _ in exposed ^ self.exposed}))
            raise SubjectError(f"The subject exposes {changed} at some steps and not at others (step {number}).")
        kept = [quantity for quantity, _ in sorted(exposed) if quantity in ORDER]
        if kept and getattr(self.subject, "forward_only", False) is True:
            raise SubjectError(f"The subject exposes {kept[0]} after an update, and says that it is forward_only.")
        self.exposed = exposed

    def explained(
        self,
        result: ModeResult,
        before: Point,
        batch: list[list[int]],
        actual: Step,
        pairs: Sequence[Tensors],
        kinks: Mapping[Kink, Nearness],
    ) -> Sequence[Tensors]:
        """The pairs, where they are outside with ReLUs turned or updates judged by themselves if that explains them."""
        result.kinks += len(kinks)
        if not self.outside(pairs) or result.first_divergence:  # once diverged, a step more or less is no news
            return pairs

        if kinks and self.outside(early(pairs)):
            paired = partial(self.paired, before.number, batch, actual)
            other = turned(self.floor, before, batch, pairs, kinks, self.judge, paired)
            if other is not None:
                result.kinks_turned += other.gates
                self.floor.point, pairs = other.after, other.pairs
        update = judged(pairs, self.previous, self.floor, before.number, self.judge)
        result.steep += update.elements
        for part, tensor, delta in adopted(pairs, update.pairs):
            self.floor.adopt(part, tensor, delta)
        self.oracle.load(self.floor.state)
        return update.pairs

    def limit_of(self, replicas: int) -> float:
        """The largest z that rounding explains, of a floor from so many replicas."""
        return limit(self.judge.false_alarm, self.elements(1), replicas)

    def answer(self, number: int, batch: list[list[int]]) -> Step:
        """The subject's step."""
        return train_step(self.subject, batch, f"step {number}")

    def paired(self, number: int, batch: list[list[int]], actual: Step, expected: Step, sigma: Step) -> Pairs:
        """Both steps, tensor by tensor; SubjectError where the subject's cannot be read."""
        try:
            return paired(number, actual, expected, sigma, [self.positions(tokens) for tokens in batch])
        except (TypeError, ValueError, AttributeError) as error:
            raise SubjectError(f"The subject's answer at step {number} cannot be read as a Step: {error}.") from error

    def outside(self, pairs: Sequence[Tensors]) -> int:
        """How many elements rounding does not explain."""
        return self.judge.count_outside(pairs)

    def locate(self, state: State, batch: list[list[int]]) -> Difference | None:
        """The first site outside at a step that diverged, if the subject exposes sites."""
        if not hasattr(self.subject, "expose_sites"):
            return None
        self.expose_sites(True)
        self.load(state)
        again, truth, self.truth = ModeResult("lock-step"), self.truth, None
        exposed, self.exposed = self.exposed, None
        # The truth may have gone on without the reference; and broken sites are no news once a step is wrong.
        with suppress(NoExpectation, SubjectError):
            again.add((t for t in self.step(again, batch) if t.quantity in SITES), self.judge)
        self.expose_sites(self.sites)
        self.truth, self.exposed = truth, exposed
        return again.first_divergence

    def unchecked(self) -> list[str]:
        """The quantities that the subject does not expose."""
        asked = [quantity for quantity in FIELDS.values() if self.sites or quantity not in SITES]
        exposed = {quantity for quantity, _ in self.exposed or ()}
        return [quantity for quantity in asked if quantity not in exposed]


def largest_z(tensors: Tensors) -> float:
    """The largest z of a tensor; infinite for NaN."""
    return float(np.where(np.isnan(tensors.z), np.inf, tensors.z).max(initial=0.0))
