"""What an element is judged by: a number format, and the largest z that rounding explains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.case import Case
from parity.judging.computation_order import in_order_of_computation
from parity.judging.element_errors import Measures, count_outside, measure
from parity.judging.pairs import Difference, Pairs
from parity.number_formats import FORMATS, Format
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import site_elements
from parity.oracle.rounding import Rounding
from parity.verdict import limit


@dataclass(frozen=True)
class Judge:
    """The format that a subject computes in, and the largest z that rounding explains at a false-alarm rate."""

    form: Format
    """That results of arithmetic are numbers of."""
    limit: float
    """The largest z that rounding explains."""
    false_alarm: float
    """The chance that a correct subject gets beyond it somewhere."""
    storage: Format | None = None
    """The format that weights and moments lie in, if that is another one."""
    exactly: bool = False
    """Whether the subject runs in exact arithmetic behind the formats that it was written for."""

    @property
    def rounding(self) -> Rounding | None:
        """The rules of rounding, where they are not those of the formats."""
        return Rounding.in_exact_arithmetic() if self.exactly else None

    @classmethod
    def of_elements(cls, elements: int, false_alarm: float, form: Format = FORMATS["float64"]) -> "Judge":
        """The judge of so many elements, over all of which the false-alarm rate is shared out."""
        return cls(form, limit(false_alarm, elements, REPLICAS), false_alarm)

    @property
    def widest(self) -> Format:
        """The format with the most digits that answers may have."""
        return max((self.form, self.storage or self.form), key=lambda form: form.digits)

    def outside(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Where rounding does not explain the difference."""
        return pairs.z > self.limit

    def count_outside(self, pairs: Pairs) -> int:
        """How many elements rounding does not explain."""
        return int(count_outside(pairs.actual, pairs.expected, pairs.sigma, self.limit))

    def first_outside(self, pairs: Pairs, quantity: str | None = None) -> Difference | None:
        """The first element that rounding does not explain, of one quantity or of all.

        It is that of the tensor that a step computes first (see `parity.judging.computation_order`).
        """
        outside, starts = self.outside(pairs), pairs.layout.starts
        if not outside.any():
            return None
        for tensor in in_order_of_computation(pairs.keys):
            inside = outside[starts[tensor] : starts[tensor + 1]]
            if quantity in (None, pairs.keys[tensor].quantity) and inside.any():
                return pairs.at(int(starts[tensor]) + int(np.argmax(inside)), self.form)
        return None

    def accepts(self, pairs: Pairs) -> bool:
        """Whether rounding explains all differences; one that nobody can judge it does not."""
        return bool(np.all(pairs.z <= self.limit))

    def measures(self, pairs: Pairs) -> Measures:
        """All that `measure` finds of the tensors of a step."""
        place = pairs.layout
        counts, *others = measure(
            pairs.actual,
            pairs.expected,
            pairs.sigma,
            pairs.wide_sigma,
            place.starts,
            np.array(place.first_tensors),
            place.shuffled,
            self.limit,
            self.form.digits,
            self.form.lowest,
        )
        return Measures(*counts.tolist(), *(other.tolist() for other in others))


def positions(case: Case, tokens: Sequence[int]) -> int:
    """How many positions of a document count."""
    return min(case.config.block_size, len(tokens) - 1)


def offered_elements(case: Case, modes: int = 1, sites: bool = False) -> int:
    """How many elements a case offers for comparison."""
    lengths = [positions(case, tokens) for batch in case.batches() for tokens in batch]
    one = 1 + 4 * case.config.num_params()
    documents = sum(n * case.config.vocab_size + (site_elements(case.config, n) if sites else 0) for n in lengths)
    return modes * (case.steps * one + documents)
