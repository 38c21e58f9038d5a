"""What the comparison of one quantity found, and the smallest error that it would have caught."""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from parity.judging.element_errors import WRONG_ANSWERS, Measures
from parity.judging.pairs import Difference, Pairs
from parity.number_formats import Format
from parity.verdict import Verdict

_LARGEST = ("z", "error", "ulps")
"""What the largest difference of a quantity is noted of."""


@dataclass
class TensorPower:
    """What the check of one tensor could have seen."""

    medians: list[float] = field(default_factory=list)
    """Of the smallest relative errors that would have been caught, element by element, at every step."""
    worst: float = 0.0
    """The largest of them."""
    accepted: int = 0
    """A bit for each of WRONG_ANSWERS that passed at some step."""
    refused: int = 0
    """A bit for each of them that did not."""

    @property
    def median(self) -> float:
        """Of the steps' medians; NaN where all that was expected is 0."""
        return statistics.median(self.medians) if self.medians else math.nan

    @property
    def blind(self) -> list[str]:
        """The wrong answers that no step refused."""
        return wrong_answers(self.accepted & ~self.refused)

    def add(self, median: float, worst: float, accepted: int, refused: int) -> None:
        """Take in one step."""
        if not math.isnan(median):
            self.medians.append(median)
        self.worst = max(self.worst, worst)
        self.accepted |= accepted
        self.refused |= refused


def wrong_answers(bits: int) -> list[str]:
    """The wrong answers that bits stand for."""
    return sorted(name for which, name in enumerate(WRONG_ANSWERS) if bits >> which & 1)


@dataclass
class QuantityResult:
    """What the comparison of one quantity found over the steps of one mode."""

    quantity: str
    compared: int = 0
    """Elements."""
    zero_in_both: int = 0
    """Elements that are 0 on both sides."""
    exact: int = 0
    """Elements with a noise floor of 0, which must be equal."""
    outside: int = 0
    """Elements that rounding does not explain."""
    undecided: int = 0
    """Elements that differ and have no finite noise floor."""
    identical: bool = True
    """Whether all bits are the same."""
    first_outside: Difference | None = None
    """Of the first step in which one is outside, in the tensor that this step computes first."""
    largest_z: Difference | None = None
    largest_error: Difference | None = None
    largest_ulps: Difference | None = None
    power: dict[str, TensorPower] = field(default_factory=lambda: defaultdict(TensorPower))
    """By the names of tensors."""

    @property
    def vacuous(self) -> list[str]:
        """Wrong answers that no tensor of the quantity would have refused."""
        accepted = refused = 0
        for power in self.power.values():
            accepted, refused = accepted | power.accepted, refused | power.refused
        return wrong_answers(accepted & ~refused)

    @property
    def blind(self) -> dict[str, list[str]]:
        """The tensors that would have accepted a wrong answer, and which."""
        return {tensor: power.blind for tensor, power in self.power.items() if power.blind}

    @property
    def verdict(self) -> Verdict:
        """The verdict on this quantity alone."""
        if self.outside:
            return Verdict.DIVERGED
        if not self.compared or self.undecided or self.vacuous:
            return Verdict.INCONCLUSIVE
        return Verdict.IDENTICAL if self.identical else Verdict.PARITY

    def add(self, pairs: Pairs, group: int, found: Measures, form: Format) -> None:
        """Take in a group of the tensors of one step."""
        elements = found.elements[group]
        self.compared += elements
        self.zero_in_both += found.zero_in_both[group]
        self.exact += found.exact[group]
        self.undecided += found.undecided[group]
        self.outside += found.outside[group]
        self.identical &= not found.unequal[group]
        if not elements:
            return
        for tensor in range(*pairs.layout.first_tensors[group : group + 2]):
            self.power[pairs.layout.entries[tensor][0].name].add(
                found.medians[tensor], found.worst[tensor], found.accepted[tensor], found.refused[tensor]
            )
        for name, place, size in zip(_LARGEST, found.places[group], found.sizes[group], strict=True):
            known = getattr(self, f"largest_{name}")
            if known is None or size > magnitude(getattr(known, name), name):
                setattr(self, f"largest_{name}", pairs.at(place, form))


def magnitude(value: float, name: str) -> float:
    """How large an error, a distance or a z counts where the largest one is looked for."""
    # NaN counts as infinitely large: it must not hide behind the maximum. A z that is NaN says that nobody knows.
    return value if not math.isnan(value) else -1.0 if name == "z" else math.inf
