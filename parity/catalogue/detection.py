"""Which mutant shows in which case: every answer against the noise floor of a number format, without any diagnosis."""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.case import Case
from parity.catalogue.mutants import Mutant
from parity.errors import NoExpectation, SubjectError
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.number_formats import FORMATS
from parity.options import MODES
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Oracle
from parity.quantities import FIELDS, SITES
from parity.tensors import listed_state, named_state, vectors
from parity.verdict import FALSE_ALARM, limit
from reference.config import State, Step

COMPARED = tuple(quantity for quantity in FIELDS.values() if quantity not in SITES)
"""The quantities that every check asks for."""

CLEARLY = 2.0
"""A mistake shows where z is so many times the limit: not by a hair, which another compiler may bend."""

_ANY_ELEMENTS = 100_000
"""More than a small case has, so that its limit is no larger than the one taken here."""

USUAL_LIMIT = limit(FALSE_ALARM, _ANY_ELEMENTS, REPLICAS)
"""The largest z that rounding explains in a small case."""


@dataclass(frozen=True)
class Question:
    """One step: the state that is loaded first (None: run on), its documents, and what is expected."""

    number: int
    state: State | None
    batch: list[list[int]]
    step: Step
    sigma: Step
    """The noise floor of what is expected."""


@dataclass(frozen=True)
class Shown:
    """The quantities in which a mutant shows: at the first question, in all of lock-step, and free-running."""

    first: frozenset[str]
    lock_step: frozenset[str]
    free_running: frozenset[str]

    @property
    def text(self) -> str:
        """Three letters, one for each set."""
        return "".join(_LETTERS[sum(1 << COMPARED.index(q) for q in part)] for part in self._parts)

    @property
    def _parts(self) -> tuple[frozenset[str], ...]:
        return (self.first, self.lock_step, self.free_running)

    @classmethod
    def of_text(cls, text: str) -> "Shown":
        """What `text` says."""
        return cls(*(frozenset(q for i, q in enumerate(COMPARED) if _LETTERS.index(x) >> i & 1) for x in text))


NOWHERE = Shown(frozenset(), frozenset(), frozenset())
_LETTERS = "." + string.ascii_letters + string.digits + "-"
"""By the quantities that they stand for, of six, in binary."""


class AskedCase:
    """What a check asks in a case, in both modes, with the answers that it expects in a number format.

    NoExpectation where the reference has no answer to a step; as_far: the steps before it are asked instead.
    """

    def __init__(self, case: Case, dtype: str, *, as_far: bool = False) -> None:
        self.case, self.form = case, FORMATS[dtype]
        self.limit = CLEARLY * USUAL_LIMIT
        self.oracle = Oracle(case.config, case.hyper, self.form, self.limit)
        self.modes = {mode: self._asked(mode, as_far) for mode in MODES}

    def _asked(self, mode: str, as_far: bool) -> list[Question]:
        config, questions = self.case.config, list[Question]()
        state, point = self.case.state, self.oracle.start(self.case.state)
        for number, batch in enumerate(self.case.batches()):
            loaded = None
            if not number or mode == "lock-step":
                tensors = self.form.rounded(vectors(config, state))
                loaded = listed_state(config, named_state(config, tensors, state.step))
                point = self.oracle.start(loaded)
            try:
                expected = self.oracle.expect(point, batch)
            except NoExpectation:
                if as_far and questions:
                    break
                raise
            questions.append(Question(point.number, loaded, batch, expected.step, expected.sigma))
            point = expected.after
            state = point.state(config)
        return questions

    def refusing_mode(self, mutant: Mutant) -> str | None:
        """The first mode in which the mutant has no answer, or one that is clearly outside of the noise floor."""
        subject = mutant.make(self.case.config, self.case.hyper)
        refusing = (mode for mode, asked in self.modes.items() if any(self._refused(subject, q) for q in asked))
        return next(refusing, None)

    def shown(self, mutant: Mutant) -> "Shown":
        """The quantities in which the mutant is clearly outside: at the first question, in lock-step, free-running."""
        subject = mutant.make(self.case.config, self.case.hyper)
        found = {mode: [self._outside(subject, q) for q in asked] for mode, asked in self.modes.items()}
        lock_step, free = found["lock-step"], found["free-running"]
        return Shown(lock_step[0], frozenset().union(*lock_step), frozenset().union(*free))

    def _refused(self, subject: Any, question: Question) -> bool:
        return bool(self._outside(subject, question))

    def _outside(self, subject: Any, question: Question) -> frozenset[str]:
        """The quantities that are clearly outside; all of them where the mutant has no answer."""
        pairs = self.answered(subject, question)
        return frozenset(COMPARED) if pairs is None else self.outside(pairs)

    def answered(self, subject: Any, question: Question) -> Pairs | None:
        """A mutant's answer beside what is expected; None where it has none, or one of another shape.

        It is as a check reads it: what is lost where it is rounded to the format does not show.
        """
        lengths = [min(self.case.config.block_size, len(tokens) - 1) for tokens in question.batch]
        try:
            if question.state is not None:
                subject.load(question.state)
            answer = subject.train_step(question.batch)
            pairs = paired(question.number, answer, question.step, question.sigma, lengths)
        except (ArithmeticError, ValueError, SubjectError):
            return None
        return pairs.with_sides(actual=self.form.rounded(pairs.actual))

    def outside(self, pairs: Pairs) -> frozenset[str]:
        """The quantities of an answer that are clearly outside."""
        # A z that is NaN says that the noise floor is not finite: there, nobody knows.
        return frozenset(q for q in COMPARED if np.any(pairs.z[pairs.place(q)] > self.limit))


def cover(shown_in: Mapping[str, set[str]], needed: Iterable[str]) -> list[str]:
    """Names of cases that show all that is needed, as far as any do: next is always what shows most of the rest."""
    left, chosen = set(needed), []
    while left and shown_in:
        best = max(shown_in, key=lambda name: len(left & shown_in[name]))
        if not left & shown_in[best]:
            break
        chosen.append(best)
        left -= shown_in[best]
    return chosen
