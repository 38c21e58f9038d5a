"""The verdicts, and the limit that decides between them."""

from collections.abc import Iterable
from enum import StrEnum

FALSE_ALARM = 1e-9
"""The chance that a correct subject gets a verdict other than IDENTICAL or PARITY, over all elements compared."""


class Verdict(StrEnum):
    """What a check found, from best to worst."""

    IDENTICAL = "IDENTICAL"
    PARITY = "PARITY"
    INCONCLUSIVE = "INCONCLUSIVE"
    PRECISION_LOSS = "PRECISION LOSS"
    DIVERGED = "DIVERGED"
    ERROR = "ERROR"

    @property
    def passes(self) -> bool:
        """Whether it is the same function; INCONCLUSIVE does not pass: nothing was decided."""
        return self in (Verdict.IDENTICAL, Verdict.PARITY)

    @property
    def exit_status(self) -> int:
        """0 for the same function, 3 where nothing could be decided, 1 otherwise."""
        return 0 if self.passes else 3 if self is Verdict.INCONCLUSIVE else 1


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over all parts of a check; INCONCLUSIVE if there are none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.INCONCLUSIVE)


def limit(false_alarm: float, elements: int, replicas: float) -> float:
    """The largest z that rounding alone explains.

    σ is estimated from the replicas, so that z follows Student's t with replicas - 1 degrees of freedom; the limit
    is its two-sided quantile for the family-wise false-alarm rate, split evenly over the elements (Bonferroni).
    """
    from scipy.special import stdtrit

    return -float(stdtrit(replicas - 1, false_alarm / (2 * max(1, elements))))
