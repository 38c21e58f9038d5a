"""What the checks of one test found, in the few numbers that a JUnit report has room for."""

from statistics import median
from typing import TYPE_CHECKING

from parity.verdict import Verdict, worst

if TYPE_CHECKING:
    from parity.judging.result import Result


class Tally:
    """Over all checks since the last clear: how many, the worst verdict, the largest z, and what would be caught."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.checks, self.verdict, self.largest_z, self.limit = 0, Verdict.IDENTICAL, 0.0, 0.0
        self.visible: list[float] = []
        self.not_exercised: list[str] | None = None

    def note(self, result: "Result") -> None:
        """Take in one check."""
        self.checks += 1
        self.verdict = worst((self.verdict, result.verdict))
        self.limit = max(self.limit, result.judge.limit)
        self.largest_z = max(self.largest_z, result.largest_z or 0.0)
        left = result.not_exercised
        known = left if self.not_exercised is None else self.not_exercised
        self.not_exercised = [phrase for phrase in known if phrase in left]
        for mode in result.modes:
            for row in mode.quantities.values():
                self.visible += [power.median for power in row.power.values() if power.medians]

    @property
    def properties(self) -> list[tuple[str, str]]:
        """By name, for a report; none where nothing was checked.

        would_catch: of the smallest relative errors that the checks would have caught, the median. not_exercised: what
        none of them did.
        """
        if not self.checks:
            return []
        named = {
            "checks": str(self.checks),
            "verdict": self.verdict.value,
            "largest_z": f"{self.largest_z:.2g}",
            "limit": f"{self.limit:.1f}",
        }
        if self.visible:
            named["would_catch"] = f"{median(self.visible):.1g}"
        if self.not_exercised:
            named["not_exercised"] = "; ".join(self.not_exercised)
        return [(f"parity.{name}", text) for name, text in named.items()]


tally = Tally()
"""That of the test which is running; the plugin clears it and reports it."""
