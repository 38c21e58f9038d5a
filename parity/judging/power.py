"""The power of a check: the smallest error that it would have caught, and what wrong answers would have passed."""

import math
import statistics
from dataclasses import dataclass, field

from parity.judging.element_errors import WRONG_ANSWERS


@dataclass
class TensorPower:
    """What the check of one tensor could have seen.

    medians, worst: of the smallest relative errors that would have been caught, element by element, at every step.
    accepted, refused: a bit for each of WRONG_ANSWERS that passed at some step, or did not.
    """

    medians: list[float] = field(default_factory=list)
    worst: float = 0.0
    accepted: int = 0
    refused: int = 0

    @property
    def median(self) -> float:
        """Of the steps' medians; NaN where all that was expected is 0."""
        return statistics.median(self.medians) if self.medians else math.nan

    @property
    def blind(self) -> list[str]:
        """The wrong answers that no step refused."""
        return answers(self.accepted & ~self.refused)

    def add(self, median: float, worst: float, accepted: int, refused: int) -> None:
        """Take in one step."""
        if not math.isnan(median):
            self.medians.append(median)
        self.worst = max(self.worst, worst)
        self.accepted |= accepted
        self.refused |= refused


def answers(bits: int) -> list[str]:
    """The wrong answers that bits stand for."""
    return sorted(name for which, name in enumerate(WRONG_ANSWERS) if bits >> which & 1)
