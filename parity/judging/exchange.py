"""One subject beside one oracle on one case: a question is put, and what comes of it is an exchange."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError
from parity.judging.causes import Asked
from parity.judging.judge import Judge, positions
from parity.judging.own_updates import gone_on_from, with_own_updates
from parity.judging.pairing import paired
from parity.judging.pairs import Difference, Pairs
from parity.judging.relu_gates import SHORT_DIGITS, expect_with_shown, observed_gates, shown_gates, with_own_gates
from parity.judging.suspected_sites import SuspectedSite, suspected_sites, without
from parity.number_formats import Floats
from parity.oracle.oracle import Expectation, Oracle, Point
from parity.quantities import FIELDS, MATRICES, SITES, STATE
from parity.subjects.attributes import has_sites, show_sites, shown_by, tied_head, without_update
from parity.subjects.calls import guarded
from parity.subjects.command import CommandSubject
from parity.subjects.subject import Subject, train_step
from parity.tensors import TIED, elements_of, listed_state, named_state, vectors, with_tied_head
from reference.config import Config, State, Step

if TYPE_CHECKING:
    from parity.judging.true_exchange import TruthJudge


_FEW_DOCUMENTS = 2
"""Of a right answer's batch, of which the sites are looked at though nobody asked for them."""


@dataclass(frozen=True)
class SitesOutside:
    """The sites of an answer that rounding does not explain."""

    first: Difference | None = None
    """The first element of the first one, those left out that are suspected to be shown under a wrong name."""
    suspected: tuple[SuspectedSite, ...] = ()
    failure: str = ""
    """Why the sites of a right answer could not be compared."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question, what was expected, and what the subject answered."""

    expectation: Expectation
    answer: Step
    pairs: Pairs
    """Both sides, with what explains a difference already in the expectation."""
    before: Floats | None
    """Parameters, m and v of the subject before the step, (3, elements); NaN where it does not expose them, None where
    it leaves out one of the three as a whole."""
    near_gates: int = 0
    """ReLUs whose input lay within the noise floor of zero."""
    turned_gates: int = 0
    """Those of them that the subject, legitimately, decided otherwise than the reference."""
    own_updates: int = 0
    """Elements whose update was judged by itself, from the subject's own gradient."""
    truth: Mapping[str, Pairs] = field(default_factory=dict)
    """By column, how far subject and reference are from the truth and from each other, if that was asked for."""
    reference_failure: str = ""
    """Why the reference had no answer, where the truth had one."""

    @property
    def number(self) -> int:
        """Of the step."""
        return self.expectation.before.number

    @property
    def batch(self) -> list[list[int]]:
        """The documents."""
        return self.expectation.batch

    @property
    def after(self) -> Point:
        """Where it leads."""
        return self.expectation.after

    @property
    def light(self) -> "Exchange":
        """The same without what every replica gave, and without what follows."""
        before = replace(self.expectation.before, noisy=np.zeros((3, 0, 0)))
        return replace(self, expectation=replace(self.expectation, before=before, after=before, noisy=None))


class Run:
    """One subject, one oracle and one judge on one case.

    `ask` sets both sides to a state first, `go_on` has both go on from an exchange. Both raise SubjectError where the
    subject fails or answers with something that cannot be compared, and NoExpectation where there is no right answer.
    oracle: where expected comes from, "replay" or "python". sites: compare the named intermediates, too. truth: what
    judges by a certified enclosure instead.
    """

    def __init__(
        self,
        case: Case,
        subject: Subject,
        judge: Judge,
        *,
        oracle: str = "replay",
        sites: bool = False,
        truth: "TruthJudge | None" = None,
    ) -> None:
        self.case, self.subject, self.judge, self.sites, self.truth = case, subject, judge, sites, truth
        self.oracle = Oracle(case.config, case.hyper, judge.form, judge.limit, oracle, judge.storage, judge.rounding)
        self._tied = tied_head(subject)
        self._exposed: frozenset[tuple[str, str]] | None = None
        # In short formats many ReLUs lie so near to their kink that the subject is best asked for its own gates.
        self._asks_for_gates = judge.form.digits <= SHORT_DIGITS and not self.oracle.smooth
        self._shows_gates = self._knows_gates = False
        # In another process there is nothing to observe.
        self._observes = self._asks_for_gates and not isinstance(subject, CommandSubject)
        self._relu_inputs: Floats | None = None
        show_sites(subject, sites or self._asks_for_gates)

    def ask(self, state: State, batch: list[list[int]], *, explain: bool = True) -> Exchange:
        """Set both sides to a state, rounded to numbers that both can represent, and ask for a step.

        explain: look for what makes a difference legitimate.
        """
        state = self.rounded(state)
        self.load(state)
        point = self.oracle.start(state)
        return self._exchange(point, batch, point.exact, explain, state)

    def go_on(self, last: Exchange, batch: list[list[int]], *, explain: bool = True) -> Exchange:
        """Ask for the step after an exchange, from where each side stands."""
        exposed = all(getattr(last.answer, part, None) is not None for part in ("params", "m", "v"))
        before, point = exposed_state(self.case.config, last.pairs) if exposed else None, last.after
        if before is not None and explain and self.truth is None:
            point = gone_on_from(self.oracle, self.judge, last.expectation, last.pairs, last.before, before)
        return self._exchange(point, batch, before, explain)

    def ask_again(self, exchange: Exchange, *, explain: bool) -> Exchange:
        """A question that was put with `ask`, put and judged once more; what is exposed now may be something else."""
        before = exchange.expectation.before
        state = before.state(self.case.config)
        self.load(state)
        return self._put(before, exchange.batch, before.exact, explain, state)

    def sites_outside(self, exchange: Exchange, *, passed: bool) -> SitesOutside:
        """Of a question that was put with `ask`, put again with the sites: which of them are outside.

        passed: the answer is right but for its sites. Nothing where the subject has no sites to show. Where they cannot
        be compared, that is no news in a wrong answer.
        """
        if not has_sites(self.subject):
            return SitesOutside()
        before, batch = exchange.expectation.before, exchange.batch[: _FEW_DOCUMENTS if passed else None]
        state = before.state(self.case.config)
        show_sites(self.subject, True)
        try:
            self.load(state)
            if self._asks_for_gates:
                answer = self._answer_and_gates(exchange.number, batch, state)
                expectation = self._expected(before, batch, answer, sites=True)
            else:
                answer = self.answer(exchange.number, batch)
                expectation = self.oracle.expect(before, batch, sites=True)
            again = self.judged(expectation, answer, before.exact)
            pairs, of = again.pairs, (self.case.config, self.judge, again.expectation)
            suspected = suspected_sites(*of, pairs, shown_by(self.subject), passed)
            first = self.judge.first_outside(without(pairs, [site.name for site in suspected]))
            return SitesOutside(first, tuple(suspected))
        except NoExpectation:
            return SitesOutside()
        except SubjectError as error:
            return SitesOutside(failure=str(error) if passed else "")
        finally:
            show_sites(self.subject, self.sites or self._asks_for_gates)

    def rounded(self, state: State) -> State:
        """A state in numbers that both sides can represent; NoExpectation where it has no such numbers."""
        storage = self.judge.storage or self.judge.form
        tensors = storage.rounded(vectors(self.case.config, state))
        tensors = with_tied_head(self.case.config, tensors) if self._tied else tensors
        if not np.isfinite(self.judge.form.rounded(tensors)).all():
            raise NoExpectation(f"The weights of step {state.step} are too large for {self.judge.form.name}.")
        return named_state(self.case.config, tensors, state.step)

    def judged(
        self, expectation: Expectation, answer: Step, before: Floats | None, *, explain: bool = True
    ) -> Exchange:
        """An answer beside an expectation, which takes the subject's own gates and updates where that explains it."""
        pairs, near, updates = self.compared(expectation, answer), len(expectation.near), 0
        if explain and self.judge.count_outside(pairs):

            def compare(expected: Step, sigma: Step) -> Pairs:
                return self.paired(expectation, answer, expected, sigma)

            if not self._knows_gates:
                expectation, pairs = with_own_gates(self.oracle, self.judge, expectation, pairs, compare)
            expectation, pairs, updates = with_own_updates(self.oracle, self.judge, expectation, pairs, before)
        return Exchange(expectation, answer, pairs, before, near, len(expectation.decided), updates)

    def compared(self, expectation: Expectation, answer: Step) -> Pairs:
        """An answer beside an expectation; SubjectError where it cannot be read."""
        return self.paired(expectation, answer, expectation.step, expectation.sigma)

    def paired(self, question: Expectation, answer: Step, expected: Step, sigma: Step) -> Pairs:
        """An answer to a question beside another expected step; SubjectError where it cannot be read."""
        number, lengths = question.before.number, [positions(self.case, tokens) for tokens in question.batch]
        try:
            pairs = paired(number, answer, expected, sigma, lengths)
        except (TypeError, ValueError, AttributeError) as error:
            raise SubjectError(f"The subject's answer at step {number} cannot be read as a Step: {error}.") from error
        # Nine digits are enough for float32: what was given stands for the nearest number of its format.
        return pairs.with_sides(actual=self.judge.widest.rounded(pairs.actual))

    def load(self, state: State) -> None:
        """Set the subject to a state, in lists of its own, so that it cannot change what is expected."""
        guarded(f"load before step {state.step}", self.subject.load, listed_state(self.case.config, state))

    def answer(self, number: int, batch: list[list[int]]) -> Step:
        """The subject's step."""
        return train_step(self.subject, batch, f"step {number}")

    def _answer_and_gates(self, number: int, batch: list[list[int]], state: State | None) -> Step:
        """The subject's step, and in `_relu_inputs` what its ReLUs are given, where that can be observed.

        Compiled code steps aside while it is observed. So from a state that the subject can be set to again, what is
        judged is an answer of its own, which nobody observes.
        """
        self._relu_inputs = None
        if not self._observes or self._shows_gates or "torch" not in sys.modules:
            return self.answer(number, batch)
        from parity.subjects.observed_relus import ReluObserver

        with ReluObserver(4 * self.case.config.n_embd) as observer:
            answer = self.answer(number, batch)
        self._relu_inputs = observer.inputs
        self._observes = self._relu_inputs is not None
        if state is None:
            return answer
        self.load(state)
        return self.answer(number, batch)

    def _expected(self, point: Point, batch: list[list[int]], answer: Step, sites: bool) -> Expectation:
        """What is expected of a subject that answered so: with its own gates, where it shows them or was observed."""
        shown = shown_gates(self.oracle, batch, getattr(answer, "sites", None))
        self._shows_gates = shown is not None
        if shown is None and self._relu_inputs is not None:
            shown = observed_gates(self.oracle, point, batch, self._relu_inputs)
        own = expect_with_shown(self.oracle, self.judge, point, batch, shown, sites) if shown else None
        expectation = own or self.oracle.expect(point, batch, sites=sites)
        self._knows_gates = self._shows_gates and shown is not None and shown.keys() >= expectation.near.keys()
        return expectation

    def unchecked(self) -> list[str]:
        """The quantities that the subject does not expose, and of others the matrices that it leaves out."""
        return unchecked(self.case.config, quantities_asked(self.sites), self._exposed or frozenset())

    def _exchange(
        self,
        point: Point,
        batch: list[list[int]],
        before: Floats | None,
        explain: bool,
        state: State | None = None,
    ) -> Exchange:
        exchange = self._put(point, batch, before, explain, state)
        self._note_exposed(exchange)
        return exchange

    def _put(
        self, point: Point, batch: list[list[int]], before: Floats | None, explain: bool, state: State | None
    ) -> Exchange:
        """A question's answer, judged. state: what the subject was set to just now; None where it goes on."""
        try:
            return self._judged_answer(point, batch, before, explain, state)
        except SubjectError as error:
            error.asked = asked_at(self.case, point.number, batch)
            raise

    def _judged_answer(
        self, point: Point, batch: list[list[int]], before: Floats | None, explain: bool, state: State | None
    ) -> Exchange:
        if self.truth is None:
            # In a wider format few gates are near to their kink, and it is simpler to expect before one asks.
            if explain and self._asks_for_gates:
                answer = self._answer_and_gates(point.number, batch, state)
                expectation = self._expected(point, batch, answer, self.sites)
            else:
                self._knows_gates = False
                expectation = self.oracle.expect(point, batch, sites=self.sites)
                answer = self.answer(point.number, batch)
            return self.judged(expectation, answer, before, explain=explain)
        return self.truth.exchange(self, point, batch, explain=explain)

    def _note_exposed(self, exchange: Exchange) -> None:
        """Keep what was exposed; SubjectError where something is no longer, which would go unchecked unnoticed."""
        exposed, known = exchange.pairs.exposed, self._exposed
        if known is not None and exposed != known:
            raise SubjectError(
                f"The subject exposes {_changed(exposed, known)} at some steps and not at others (step "
                f"{exchange.number})."
            )
        require_what_it_says(self.subject, exposed)
        self._exposed = exposed


def exposed_state(config: Config, pairs: Pairs) -> Floats:
    """Parameters, m and v as a subject answered them, (3, elements); NaN where it does not expose them."""
    state = np.full((len(STATE), config.num_params()), np.nan)
    for row, quantity in zip(state, STATE, strict=True):
        row[elements_of(config, pairs.names(quantity))] = pairs.actual[pairs.place(quantity)]
    return state


def require_what_it_says(subject: Subject, exposed: frozenset[tuple[str, str]]) -> None:
    """SubjectError where a subject exposes what it says of itself that it has not."""
    kept = [quantity for quantity, _ in sorted(exposed) if quantity in STATE]
    said = without_update(subject) if kept else ""
    if said:
        raise SubjectError(f"The subject exposes {kept[0]} after an update, and says {said} = True.")
    tied = tied_head(subject)
    shared = [f"{q} {name}" for q, name in sorted(exposed) if tied and q in MATRICES and name in TIED]
    if shared:
        raise SubjectError(f"The subject exposes {shared[0]}, and says tied_head = True: what is shared is left out.")


def unchecked(config: Config, asked: Sequence[str], exposed: frozenset[tuple[str, str]]) -> list[str]:
    """The quantities of those asked for that are not exposed, and of others the matrices that are not."""
    known, found = {quantity for quantity, _ in exposed}, []
    for quantity in asked:
        if quantity not in known:
            found.append(quantity)
        elif quantity in MATRICES:
            found += [f"{quantity} {name}" for name in config.shapes() if (quantity, name) not in exposed]
    return found


def asked_at(case: Case, number: int, batch: list[list[int]]) -> Asked:
    """The question of a step, for a message."""
    documents, size = case.documents, len(batch)
    start = (number - case.state.step) * size
    numbers = tuple(place % len(documents) for place in range(start, start + size))
    of_case = [documents[place] for place in numbers] == batch
    return Asked(number, numbers if of_case else (), tuple(map(len, batch)), case.config.block_size)


def _changed(exposed: frozenset[tuple[str, str]], others: frozenset[tuple[str, str]]) -> str:
    """What only one of them has: whole quantities, or single tensors of one that both have."""
    common = {quantity for quantity, _ in exposed} & {quantity for quantity, _ in others}
    return ", ".join(sorted({f"{q} {name}" if q in common else q for q, name in exposed ^ others}))


def quantities_asked(sites: bool) -> list[str]:
    """The quantities that a subject is asked for, with or without its sites."""
    return [quantity for quantity in FIELDS.values() if sites or quantity not in SITES]
