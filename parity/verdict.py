"""The verdicts, and the bound that decides between them."""

from collections.abc import Iterable
from enum import StrEnum

from parity.formats import UNIT_ROUNDOFF

PROVISIONAL_BOUND = 1e-12
"""Largest error for PARITY in float64, relative to max(1, |expected|); other formats scale it by unit roundoff."""


class Verdict(StrEnum):
    """What a check found, from best to worst."""

    IDENTICAL = "IDENTICAL"
    PARITY = "PARITY"
    INCONCLUSIVE = "INCONCLUSIVE"
    PRECISION_LOSS = "PRECISION LOSS"
    DIVERGED = "DIVERGED"
    ERROR = "ERROR"

    @property
    def exit_status(self) -> int:
        """0 for the same function, 3 where nothing could be decided, 1 otherwise."""
        return {Verdict.IDENTICAL: 0, Verdict.PARITY: 0, Verdict.INCONCLUSIVE: 3}.get(self, 1)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over all parts of a check; INCONCLUSIVE if there are none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.INCONCLUSIVE)


def bound(dtype: str) -> float:
    """The bound of a number format."""
    return PROVISIONAL_BOUND * UNIT_ROUNDOFF[dtype] / UNIT_ROUNDOFF["float64"]
