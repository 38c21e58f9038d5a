"""What became of an item: for each of its cases what was compared, in few bytes, since there are very many of them."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from parity.verdict import Verdict

CAUGHT, MISSED = "CAUGHT", "MISSED"
"""In place of a verdict, what became of a known mistake in a case."""
OUT_OF_RANGE = "NOT FINITE"
"""In place of a verdict, where a program that is right in exact arithmetic overflows in its format."""


class Comparison(NamedTuple):
    """A case in one mode. z: the largest; elements: how many were compared."""

    mode: str
    verdict: str
    z: float
    limit: float
    elements: int

    @property
    def refused(self) -> bool:
        """Whether a subject was refused."""
        return self.verdict in {verdict.value for verdict in Verdict if verdict.exit_status == 1}


@dataclass
class CaseOutcome:
    """What became of a case. digest: of the case; sizes: n_layer, n_embd, n_head, block_size, vocab_size.

    signature: what stays of a failure where its case gets smaller; case: as JSON, of what failed and of extremes.
    extreme: whether guided drawing ended there.
    """

    digest: str
    sizes: tuple[int, ...]
    exercised: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    reason: str = ""
    signature: str = ""
    case: str = ""
    extreme: bool = False

    @property
    def closeness(self) -> float:
        """The largest z as a part of the limit."""
        return max((found.z / found.limit for found in self.comparisons if found.limit), default=0.0)


@dataclass
class Outcome:
    """An item's: its cases, the seconds that it took, of which in checks, and the process that did it."""

    cases: list[CaseOutcome] = field(default_factory=list)
    seconds: float = 0.0
    checking: float = 0.0
    worker: str = ""
    died: str = ""
    """Why there are no cases: what killed the worker, twice."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinities."""
        found = asdict(self)
        for case in found["cases"]:
            case["comparisons"] = [
                [_finite(value) if isinstance(value, float) else value for value in one] for one in case["comparisons"]
            ]
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Outcome":
        """What `to_dict` gave."""
        cases = [
            CaseOutcome(
                **{
                    **case,
                    "sizes": tuple(case["sizes"]),
                    "exercised": tuple(case["exercised"]),
                    "comparisons": tuple(
                        Comparison(mode, verdict, float(z), float(limit), elements)
                        for mode, verdict, z, limit, elements in case["comparisons"]
                    ),
                }
            )
            for case in data["cases"]
        ]
        return cls(**{**data, "cases": cases})


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
