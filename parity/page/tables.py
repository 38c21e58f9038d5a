"""Tables and bars of a page, as text and places; the templates lay them out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """A table's text. words: the columns that hold words; all others are set flush right."""

    columns: Sequence[str]
    words: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Bar:
    """A row of a chart on a log axis: from start to end, in percent of its width; marks lie on it.

    verdict: whose mark stands before it. colour: a class of the style sheet. text: what the bar says, in digits. dot:
    where one lies, of which the bar is the range.
    """

    label: str
    text: str
    start: float
    end: float
    verdict: str | None = None
    colour: str = "series0"
    dot: float | None = None


@dataclass(frozen=True)
class LogAxis:
    """An axis on which equal factors are equally long. first, last: logarithms to the base of ten."""

    first: float
    last: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "LogAxis":
        """From the power of ten below all values to the one above; those that are not positive have no place."""
        known = [value for value in values if 0 < value < math.inf]
        first = math.floor(math.log10(min(known, default=1.0)))
        return cls(first, max(first + 1, math.ceil(math.log10(max(known, default=10.0)))))

    def place(self, value: float) -> float:
        """Where a value lies, in percent; what is beyond an end lies there."""
        if not value > 0:
            return 0.0
        part = (math.log10(value) - self.first) / (self.last - self.first) if math.isfinite(value) else 1.0
        return round(100 * min(1.0, max(0.0, part)), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Powers of ten: places, and what is written there; of many of them only some."""
        first, last = math.ceil(self.first), math.floor(self.last)
        by = max(1, math.ceil((last - first) / 5))
        return [(self.place(10.0**power), _power_of_ten(power)) for power in range(first, last + 1, by)]


@dataclass(frozen=True)
class LinearAxis:
    """An axis on which equal steps are equally long."""

    first: float
    last: float
    step: float

    def place(self, value: float) -> float:
        """Where a value lies, in percent; what is beyond an end lies there."""
        part = (value - self.first) / (self.last - self.first) if not math.isinf(value) else float(value > 0)
        return round(100 * min(1.0, max(0.0, part)), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places, and what is written there."""
        values = [self.first + self.step * number for number in range(int((self.last - self.first) / self.step) + 1)]
        return [(self.place(value), f"{value:g}") for value in values]


def _power_of_ten(power: int) -> str:
    if -2 <= power <= 4:
        return f"{10.0**power:,g}"
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"
