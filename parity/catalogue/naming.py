"""Which known mistake a wrong answer fits: the reference with each of them is asked the same question."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.case import Case
from parity.catalogue.detection import COMPARED
from parity.catalogue.exclusion import shown_first
from parity.catalogue.mutant_noise import NoisyMutant
from parity.catalogue.mutants import ALL, STAGES, Mutant
from parity.catalogue.mutants.mutant import MutantSubject
from parity.catalogue.together import combined, found_together
from parity.errors import SubjectError, UsageError
from parity.judging.computation_order import in_order_of_computation
from parity.judging.directions import FORWARD
from parity.judging.exchange import Exchange
from parity.judging.judge import Judge
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.judging.probes import CHOSEN, Combination, Probe, probes_for
from parity.judging.relu_gates import SHORT_DIGITS
from parity.judging.result import Result
from parity.judging.sentences import TOGETHER
from parity.progress import each
from parity.quantities import STATE
from parity.tensors import listed_state
from parity.trees import listed
from parity.verdict import Verdict
from reference.config import Config, Hyper, State, Step

SECONDS = 10.0
"""Of this thread, whatever else the machine does, that naming a mistake may take."""
_FEW_PRODUCTS = 5_000
"""Weights times positions of a question that is small enough to be put to every mutant."""
_MANY_PRODUCTS = 100_000
"""Those of one that is too large to be put to any: beyond a document of default size, or some."""

_NOT_IN = {
    "logits": ("loss", "backward", "Adam", "schedule"),
    "loss": ("backward", "Adam", "schedule", "embedding", "norm", "attention", "cache", "MLP", "layers", "head"),
    "grad": ("Adam", "schedule"),
    **dict.fromkeys(STATE, tuple(stage for stage in STAGES if stage not in ("Adam", "schedule", "loop"))),
}
"""By the first quantity that is wrong, those before it being right, the stages that a mistake is not in."""

_NEAR = 100
"""A first look, at the reference's noise floor, is content with so many times the limit: a mutant has its own."""
_NEAR_IN_SHORT_FORMATS = 3
"""Where the floor is so wide that more would pass them all."""
_MOST, _HALF = 0.8, 0.5
"""Of the elements of every quantity that are that near, and of those that are wrong, few of which are but signs."""

_SHARE = 0.7
"""Of the time that is left after one mistake was looked for, for several at once."""

Again = Callable[[Case], Result]
"""Checks the same subject on another case."""


def name_mistakes(result: Result, again: Again | None = None, seconds: float = SECONDS) -> None:
    """Note in a result that diverged the known mistakes that it fits, or that looking for them takes too long.

    again: to ask the subject in small models, where it takes them, which is sooner than to put a large question to
    every mutant; what fits there must fit the question at which it diverged, too, unless that is very large. Where no
    mistake fits, two or three at once are looked for, but in formats so short that many would fit.
    """
    asked = Question.of(result) if result.verdict is Verdict.DIVERGED else None
    if asked is None:
        return
    end = time.thread_time() + seconds
    try:
        fitting = _named(asked, again, end)
    except TimeoutError:
        result.naming_hint = (
            f"Looking for a known mistake was given up after {seconds:.0f} s; the small cases that `parity vectors "
            "DIR` writes tell `parity verify` which one it is, if it is one of those that they know."
        )
    else:
        result.mistakes = {mutant.name: _in_words(mutant) for mutant in fitting}
        lines = {part.name: part.line for mutant in fitting for part in mutant.parts or (mutant,)}
        result.mistake_lines = {name: line[0] for name, line in lines.items() if line}


def _begins_in(mutant: Mutant) -> str:
    """The quantity of those compared that is wrong first; of a forward site these are the logits, of the loss's, it."""
    what, _, name = mutant.place.partition(" ")
    if what != "site":
        return what
    return "loss" if name.startswith(("probs", "loss")) else "logits"


def _in_words(mutant: Mutant) -> str:
    """What is wrong, and where in the reference that would stand."""
    said = []
    for part in mutant.parts or (mutant,):
        where = f" (reference/microgpt.py, line {part.line[0]}: {part.line[1]})" if part.line else ""
        said.append(f"{part.mistake}{where}")
    return TOGETHER.join(said)


def _named(asked: "Question", again: Again | None, end: float) -> list[Mutant]:
    """The mutants that an answer fits, or several in one; TimeoutError where that would take longer."""
    small: Question | None = None
    if again and asked.products > _FEW_PRODUCTS:
        small = _in_a_small_model(asked, again, end)
    if small is None and asked.products > _MANY_PRODUCTS:
        raise TimeoutError
    first = small or asked
    fitting = list(first.fitting(first.suspects(), end))
    if not fitting and first.judge.form.digits > SHORT_DIGITS:
        now = time.thread_time()
        fitting = [combined(some) for some in found_together(first, now + _SHARE * (end - now))]
    if small is None or asked.products > _MANY_PRODUCTS:
        return fitting
    # A small model may hide in what a mutant and a port differ, or one of two mistakes.
    return list(asked.fitting(fitting or asked.suspects(), end))


@dataclass(frozen=True, eq=False)
class Question:
    """A question to which a wrong answer was given, in a state that was loaded."""

    case: Case
    judge: Judge
    asked: Exchange
    pairs: Pairs
    """The answer beside what is expected."""
    state: State
    """From which the step went."""
    earlier: list[tuple[State, list[list[int]]]] = field(default_factory=list)
    """What was asked before, of which some mistakes keep something: states that were loaded, and batches."""
    probe: Probe | None = None
    """That it is a question of, if it is one's."""
    known: dict[str, Pairs | None] = field(default_factory=dict)
    """By its name, the answer beside a mutant's."""

    @classmethod
    def of(cls, result: Result, probe: Probe | None = None) -> "Question | None":
        """The question that diverged first; None where there is none.

        Where it was put in exact arithmetic, too, it is that one, which sees most.
        """
        deciding = result.deciding
        found = [(mode, mode.diverged) for mode in deciding.modes if mode.diverged]
        fitting = [(mode, x) for mode, x in found if mode.mode == "lock-step" or x.number == deciding.case.state.step]
        fitting.sort(key=lambda pair: pair[0].judge is None)
        if not fitting:
            return None
        mode, asked = fitting[0]
        judge, case = mode.judge or deciding.judge, deciding.case
        pairs = asked.pairs.of_quantities(*COMPARED)
        if judge.first_outside(pairs) is None:
            return None
        before = [exchange for exchange in mode.exchanges if exchange.number < asked.number]
        state, *earlier = (
            listed_state(case.config, exchange.expectation.before.state(case.config)) for exchange in (asked, *before)
        )
        asked_before = list(zip(earlier, (exchange.batch for exchange in before), strict=True))
        return cls(case, judge, asked, pairs, state, asked_before, probe)

    @property
    def products(self) -> int:
        """How much work it is: weights times positions."""
        return self.case.config.num_params() * sum(map(len, self.asked.expectation.step.logits))

    def next_suspects(self, quantity: str) -> list[Mutant]:
        """The mutants that begin in a quantity, where what is wrong before it is explained by others."""
        return [mutant for mutant in self.suspects(quantity) if _begins_in(mutant) == quantity]

    def suspects(self, quantity: str | None = None) -> list[Mutant]:
        """The mutants that may be what is wrong in a quantity, or in the first one that is outside."""
        if quantity is None:
            first = self.judge.first_outside(self.pairs)
            assert first is not None
            quantity = first.quantity
        before = FORWARD[: FORWARD.index(quantity)] if quantity in FORWARD else FORWARD
        shown = {key.quantity for key in self.pairs.keys}.issuperset(before)
        not_in = _NOT_IN.get(quantity, ()) if shown else ()
        explained = {key.quantity for key in self.pairs.keys}.intersection(COMPARED[: COMPARED.index(quantity)])
        right = self._right | explained
        return [mutant for mutant in ALL if mutant.stage not in not_in and not self._is_refuted(mutant, right)]

    @cached_property
    def _right(self) -> frozenset[str]:
        """The quantities that are right."""
        groups = self.pairs.layout.groups
        return frozenset(name for name in groups if not self._outside[self.pairs.place(name)].any())

    def _is_refuted(self, mutant: Mutant, right: frozenset[str]) -> bool:
        """Whether it is known to be far off, in this question, in something that is right, or explained."""
        return self.asked.number == self.case.state.step and bool(shown_first(mutant, self.probe, self.judge) & right)

    def fitting(self, mutants: Sequence[Mutant], end: float) -> Iterator[Mutant]:
        """Those of the mutants whose answer it is; TimeoutError where that would take longer."""
        for mutant in each("known mistakes", mutants):
            if time.thread_time() > end:
                raise TimeoutError
            beside = self.beside(mutant)
            if beside is not None and self.is_near(beside) and self.fits(mutant):
                yield mutant

    def beside(self, mutant: Mutant) -> Pairs | None:
        """The answer beside a mutant's, at the reference's noise floor; None where it has none, or no such logits."""
        if mutant.name not in self.known:
            self.known[mutant.name] = self._beside(mutant)
        return self.known[mutant.name]

    def _beside(self, mutant: Mutant) -> Pairs | None:
        with np.errstate(all="ignore"):
            try:
                subject = mutant.make(self.case.config, self.case.hyper)
                logits = self.pairs.of_quantities("logits")
                if logits.keys and mutant.subject is MutantSubject:
                    # A small part of the work, which is enough to see that most are something else.
                    one = logits.only({key for key in logits.keys if not key.document})
                    found = self._with(one, Step(logits=self._logits(subject, self.asked.batch[:1])))
                    if not np.nanmedian(found.z) <= self._near:
                        return None
                return self._with(self.pairs, self._answer(mutant, subject))
            except (ArithmeticError, ValueError, LookupError, TypeError, SubjectError):
                return None  # it has no answer, or one of another shape

    def logits_of(self, mutant: Mutant) -> Pairs | None:
        """The answer's logits beside a mutant's."""
        with np.errstate(all="ignore"):
            try:
                subject = mutant.make(self.case.config, self.case.hyper)
                logits = Step(logits=self._logits(subject, self.asked.batch))
                return self._with(self.pairs.of_quantities("logits"), logits)
            except (ArithmeticError, ValueError, LookupError, TypeError, SubjectError):
                return None

    def is_near(self, pairs: Pairs) -> bool:
        """Whether all that may be explained by a mutant's own noise floor, which takes longer to learn."""
        # Of each quantity: a loss is one element, and where it alone is wrong all else fits nearly every mutant.
        return all(self._explains(pairs, pairs.place(name)) for name in pairs.layout.groups)

    def explained(self, pairs: Pairs) -> int:
        """How many tensors that may explain, in the order of computation, before the first that it does not."""
        starts = pairs.layout.starts
        for number, tensor in enumerate(in_order_of_computation(pairs.keys)):
            if not self._explains(pairs, slice(starts[tensor], starts[tensor + 1])):
                return number
        return len(pairs.keys)

    def _explains(self, pairs: Pairs, place: slice) -> bool:
        """Most of some elements, and most of those of them that are wrong: of a row, say, in a large matrix."""
        near, wrong = pairs.z[place] <= self._near, self._outside[place]
        return bool(np.mean(near) > _MOST and (not wrong.any() or np.mean(near[wrong]) > _HALF))

    @cached_property
    def _outside(self) -> NDArray[np.bool_]:
        return self.judge.outside(self.pairs)

    def fits(self, mutant: Mutant) -> bool:
        """Whether rounding explains all that is between the answer and a mutant's."""
        model = self.case.config, self.case.hyper
        noisy, exact = NoisyMutant(mutant, *model, self.judge.form), mutant.make(*model)
        try:
            values, sigma = self._answer(mutant, noisy)
        except (AttributeError, TypeError):  # some do what such numbers cannot
            values, sigma = self._answer(mutant, exact), None
        except (ArithmeticError, ValueError, LookupError):
            return False
        pairs = self._with(self.pairs, values, sigma)
        first = self.judge.first_outside(self.pairs)
        if first is None or first.quantity not in FORWARD:
            return self.judge.accepts(pairs)
        # Of a gradient near zero, whose sign rounding may turn, Adam makes what no replica shows.
        return self.judge.accepts(pairs.of_quantities(*FORWARD)) and self.is_near(pairs)

    def _answer(self, mutant: Mutant, subject: Any) -> Any:
        """What a mutant answers, of which some have kept something of what they were asked before."""
        asked = [(self.state, self.asked.batch)]
        for state, batch in (self.earlier if mutant.subject is not MutantSubject else []) + asked:
            subject.load(state)
            answer = subject.train_step(batch)
        return answer

    @property
    def _near(self) -> float:
        return self.judge.limit * (_NEAR_IN_SHORT_FORMATS if self.judge.form.digits <= SHORT_DIGITS else _NEAR)

    def _logits(self, subject: MutantSubject, batch: list[list[int]]) -> list[Any]:
        """What a mutant gives for some documents, without what comes after it."""
        model, config = subject.model, subject.config
        values = {name: model.elementwise(model.Value, listed(matrix)) for name, matrix in self.state.params.items()}
        _, logits = model.without_gc(model.batch_loss)(batch, values, config)
        return [model.elementwise(lambda logit: logit.data, rows) for rows in logits]

    def _with(self, pairs: Pairs, mutant: Step, sigma: Step | None = None) -> Pairs:
        """The answer's tensors beside those of a mutant; sigma None: at the reference's noise floor."""
        lengths = [len(rows) for rows in self.asked.expectation.step.logits]
        lengths = lengths[: len(mutant.logits)] if mutant.logits else lengths
        other = paired(self.asked.number, mutant, mutant, sigma or mutant, lengths).only(set(pairs.keys))
        if other.layout.entries != pairs.layout.entries:
            raise SubjectError("The mutant answers something else.")
        return pairs.with_sides(expected=other.expected, sigma=pairs.sigma if sigma is None else other.sigma)


_TINY = Combination("tiny", "plain", "early")
"""What is asked first: a document in which a token is twice, at a step at which moments are old and corrected."""


def _questions(config: Config, hyper: Hyper, form: str) -> list[Probe]:
    """The small models to ask, the one first that costs least, and those last whose weights saturate something.

    One document says nothing of what a batch makes of many, which is left to what is asked next.
    """

    def order(probe: Probe) -> tuple[bool, int, int]:
        config, documents = probe.case.config, probe.case.documents
        positions = sum(min(config.block_size, len(tokens) - 1) for tokens in documents)
        saturated = CHOSEN[probe.name][0].weights not in ("plain", "large")
        return saturated, len(documents), config.num_params() * positions

    tiny = Probe("tiny", "", "", _TINY.case(activation=config.activation, lr_schedule=hyper.lr_schedule))
    return [tiny, *sorted(probes_for(config, hyper, form), key=order)]


def _in_a_small_model(asked: Question, again: Again, end: float) -> Question | None:
    """The first small model in which a subject diverges; None where it does in none."""
    questions = _questions(asked.case.config, asked.case.hyper, asked.judge.form.name)
    for probe in each("small models", questions):
        try:
            found = again(probe.case)
        except UsageError:  # as where a name map fits one size alone
            return None
        if found.verdict is Verdict.ERROR:
            return None
        if time.thread_time() > end:
            raise TimeoutError
        question = Question.of(found, probe) if found.verdict is Verdict.DIVERGED else None
        if question is not None:
            return question
    return None
