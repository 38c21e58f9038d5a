"""Two or three known mistakes at once, where no single one is what a wrong answer fits.

What one of them explains, in the order in which a step computes its tensors, narrows down what the next may be: with
the right mistake in the forward pass the logits fit, and the first tensor that still does not is the next one's. Of two
that show in the same tensor first, such as two in the forward pass, neither explains it alone; there the effects of all
mistakes are added up two by two, and the sums that come nearest are tried as they are.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from parity.catalogue.mutants.mutant import Mutant, MutantSubject
from parity.judging.computation_order import in_order_of_computation
from parity.judging.pairs import Pairs
from parity.judging.sentences import TOGETHER
from parity.number_formats import Floats
from parity.progress import each

if TYPE_CHECKING:
    from parity.catalogue.naming import Question

_MOST = 3
"""Mistakes at once."""
_KEPT = 4
"""Combinations that explain most, to which another mistake is added."""
_TRIED = 40
"""Pairs whose added effects come nearest, which are tried as they are."""


def found_together(question: "Question", end: float) -> list[tuple[Mutant, ...]]:
    """The sets of mistakes that an answer fits, of two or of three; none where there is no such, or no time is left."""
    none = question.explained(question.pairs)
    if none == len(question.pairs.keys):  # what is wrong is not to be seen in this question
        return []
    bases: list[tuple[int, tuple[Mutant, ...]]] = [(none, ())]
    for size in range(1, _MOST + 1):
        farther: list[tuple[int, tuple[Mutant, ...]]] = []
        fitting = []
        for explained, base in bases:
            for mutant in _next(question, base, explained, end):
                both = combined((*base, mutant))
                pairs = question.beside(both)
                now = -1 if pairs is None else question.explained(pairs)
                if pairs is not None and now == len(pairs.keys):
                    fitting += [(*base, mutant)] if size > 1 and question.fits(both) else []
                elif now > explained:
                    farther.append((now, (*base, mutant)))
        if fitting:
            return fitting
        if not farther:
            break
        bases = sorted(farther, key=lambda base: -base[0])[:_KEPT]
    return list(_added_up(question, none, end))


def combined(mutants: Sequence[Mutant]) -> Mutant:
    """One mutant with the mistakes of all; ValueError, when it is made, where they are edits of the same text."""
    if len(mutants) == 1:
        return mutants[0]
    special = [mutant.subject for mutant in mutants if mutant.subject is not MutantSubject]
    return Mutant(
        " + ".join(mutant.name for mutant in mutants),
        TOGETHER.join(mutant.mistake for mutant in mutants),
        tuple(edit for mutant in mutants for edit in mutant.edits),
        subject=special[0] if special else MutantSubject,
        parts=tuple(mutants),
    )


def _next(question: "Question", base: Sequence[Mutant], explained: int, end: float) -> Iterator[Mutant]:
    """The mutants that may be added to some."""
    own = any(mutant.subject is not MutantSubject for mutant in base)
    quantity = _quantity(question.pairs, explained)
    suspects = question.next_suspects(quantity) if base else question.suspects(quantity)
    for mutant in each("two or three mistakes", suspects):
        if time.thread_time() > end:
            return
        if mutant not in base and not (own and mutant.subject is not MutantSubject):
            yield mutant


def _quantity(pairs: Pairs, explained: int) -> str:
    """That of the first tensor that is not explained."""
    return pairs.keys[in_order_of_computation(pairs.keys)[explained]].quantity


def _added_up(question: "Question", explained: int, end: float) -> Iterator[tuple[Mutant, ...]]:
    """The pairs that fit, of those whose effects on the first wrong quantity come nearest when they are added up."""
    quantity = _quantity(question.pairs, explained)
    with np.errstate(invalid="ignore"):
        whole = question.pairs.of_quantities(quantity)
        error = whole.actual - whole.expected
        mutants, effects = [], list[Floats]()
        for mutant in _next(question, (), explained, end):
            pairs = question.logits_of(mutant) if quantity == "logits" else question.beside(mutant)
            effect = None if pairs is None else pairs.of_quantities(quantity).expected - whole.expected
            if effect is not None and np.isfinite(effect).all() and effect.any():
                mutants.append(mutant)
                effects.append(effect)
    if not np.isfinite(error).all():
        return
    left = {
        (one, other): float(np.median(np.abs(error - effects[one] - effects[other])))
        for one, other in combinations(range(len(mutants)), 2)
    }
    for one, other in sorted(left, key=lambda pair: left[pair])[:_TRIED]:
        if time.thread_time() > end:
            return
        both = combined((mutants[one], mutants[other]))
        pairs = question.beside(both)
        if pairs is not None and question.explained(pairs) == len(pairs.keys) and question.fits(both):
            yield mutants[one], mutants[other]
