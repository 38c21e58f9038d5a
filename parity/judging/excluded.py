"""Which known mistakes a pass excludes, and how much was seen of those that it does not."""

import math
from dataclasses import dataclass, field
from typing import Any

from parity.words import in_few

_HALF = 0.5
"""Of a mistake; what is clipped of large effects takes alpha no farther from 0 or 1."""

_MOST_DOCUMENTS = 1e6
"""That somebody would check to exclude a mistake."""


@dataclass(frozen=True)
class Weighed:
    """How much of a known mistake was seen over some documents: 0 where it is not made, 1 where it is."""

    alpha: float
    sd: float
    """The standard deviation that rounding gives alpha."""
    shared: float
    """How far from 0 it may be besides, since all elements share numbers that are rounded."""
    limit: float
    """The largest number of standard deviations that rounding explains."""
    documents: int

    @property
    def allowed(self) -> float:
        """The largest alpha that rounding explains."""
        return self.limit * self.sd + self.shared

    @property
    def excluded(self) -> bool:
        """Whether rounding would not take alpha half the way from what it is to 1, which leaves room for its bias."""
        return self.alpha + self.allowed < _HALF

    @property
    def seen(self) -> bool:
        """Whether so much of it is there as rounding does not explain."""
        return self.alpha - self.allowed > _HALF

    def after(self, documents: int) -> float:
        """By how many standard deviations alpha would be from 1 after so many documents, beyond what they share."""
        return max(0.0, 1 - self.shared - self.alpha) / self.sd * math.sqrt(documents / self.documents)

    @property
    def more_documents(self) -> int | None:
        """How many more would decide, about; None where none would, since they share what is rounded."""
        left = _HALF - self.shared - max(0.0, self.alpha)
        needed = self.documents * (self.limit * self.sd / left) ** 2 if left > 0 else math.inf
        return max(1, math.ceil(needed - self.documents)) if needed < _MOST_DOCUMENTS else None

    def __str__(self) -> str:
        more = self.more_documents
        decide = "no number of documents would decide" if more is None else f"some {more:,} more documents would decide"
        decide = "as where it is made" if self.seen else decide
        return f"alpha {self.alpha:.2g} ± {self.sd:.1g}: {decide}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {"excluded": self.excluded, "seen": self.seen, "more_documents": self.more_documents}
        return {**vars(self), **own}


@dataclass
class Exclusion:
    """The known mistakes that a pass excludes, of how many, and by name, in sentences, those that it does not."""

    known: int
    undecided: dict[str, str]
    weighed: dict[str, Weighed] = field(default_factory=dict)
    """How much was seen of those that no element decides."""

    def __str__(self) -> str:
        found = f"{self.known - len(self.undecided)} of {self.known} known mistakes"
        seen = [name for name, of in self.weighed.items() if of.seen]
        found += f"; seen, as where it is made: {in_few(seen)}" if seen else ""
        left = [name for name in self.undecided if name not in seen]
        return f"{found}; undecided: {in_few(left)}" if left else found
