"""What the detection matrix holds of each known mistake, and what comes of it all together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.catalogue.mutants import Mutant
from parity.catalogue.placing import Placed
from parity.options import MODES

DOCUMENTS = (1, 10, 100)
"""After so many, what is seen of a mistake by all elements together."""

CASE = "case"
"""The name of what is no probe."""


@dataclass(frozen=True)
class Detection:
    """By what a check catches a mistake first; where it does not, the largest z of all that it asked."""

    caught: bool
    z: float
    """The largest one of the quantity that shows it; infinite where there is no answer, or no rounding is allowed."""
    first: str = ""
    """The quantity that is outside and is computed first, or that there is no answer; empty where none is."""
    where: str = ""
    """`CASE`, or the name of the probe."""
    mode: str = ""
    step: int = 0


@dataclass(frozen=True)
class Column:
    """A column of the matrix. text: what it shows of a row, as `Row.to_dict` gives it."""

    heading: str
    text: Callable[[dict[str, Any]], str]
    is_word: bool = True


def _caught(row: dict[str, Any]) -> str:
    return row["first"] if row["caught"] else "same" if row["equivalent"] else "missed"


def _where(row: dict[str, Any]) -> str:
    free = ", free" if row["mode"] == MODES[1] else ""
    return f"{row['where']}{free}" if row["caught"] else ""


def _z(row: dict[str, Any]) -> str:
    return f"{float(row['z']):.2g}"


def _missed_by(row: dict[str, Any]) -> str:
    return ", ".join(row["missed_by"] or ()) if row["missed_by"] is not None else "-"


def _evidence(row: dict[str, Any]) -> str:
    """In standard deviations, of which the limit is about eight."""
    found = row.get("evidence")
    return ", ".join(f"{min(found[str(n)], 9999):.2g}" for n in DOCUMENTS) if found else "-"


MISSED_BY = "missed by"
COLUMNS = (
    Column("mistake", lambda row: row["name"]),
    Column("stage", lambda row: row["stage"]),
    Column("shows in", _caught),
    Column("z", _z, is_word=False),
    Column("of the", _where),
    Column("together, 1, 10, 100 documents", _evidence),
    Column(MISSED_BY, _missed_by),
)
"""What a table of one format shows of every mistake; what else is measured of a mistake gets a column here."""


@dataclass(frozen=True)
class Row:
    """All that is known of a mutant in a number format."""

    mutant: Mutant
    dtype: str
    detection: Detection
    missed_by: tuple[str, ...] | None
    """The fixed rules that would have missed it in the case; None where they were not asked."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What else was measured of it, for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: an infinite z stands as a string."""
        found = self.detection
        return {
            "name": self.mutant.name,
            "stage": self.mutant.stage,
            "dtype": self.dtype,
            "equivalent": bool(self.mutant.equivalent),
            **vars(found),
            "z": found.z if math.isfinite(found.z) else str(found.z),
            "missed_by": None if self.missed_by is None else list(self.missed_by),
            **self.measured,
        }


@dataclass(frozen=True)
class Entry:
    """A mutant in all formats, and where a check says that it is."""

    mutant: Mutant
    rows: tuple[Row, ...]
    place: Placed | None
    """None where it was not asked for, or does not show in float64."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        mutant, place = self.mutant, self.place
        return {
            "name": mutant.name,
            "stage": mutant.stage,
            "place": mutant.place,
            "mistake": mutant.mistake,
            "sources": list(mutant.sources),
            "equivalent": mutant.equivalent,
            "located": place and {**vars(place), "begins_at": list(place.begins_at)},
            "formats": [row.to_dict() for row in self.rows],
        }


def summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """What comes of a matrix, for JSON: by format how many mistakes are caught, how many by the case alone, the names
    of the others, how many each rule misses; refused: equivalent mutants that are; and how many are located."""
    dtypes = list(dict.fromkeys(row.dtype for entry in entries for row in entry.rows))
    wrong = [entry for entry in entries if not entry.mutant.equivalent]
    found = {}
    for dtype in dtypes:
        rows = [row for entry in wrong for row in entry.rows if row.dtype == dtype]
        equal = [row for entry in entries if entry.mutant.equivalent for row in entry.rows if row.dtype == dtype]
        asked = [row for row in rows if row.missed_by is not None]
        found[dtype] = {
            "mistakes": len(rows),
            "caught": sum(row.detection.caught for row in rows),
            "caught_by_case": sum(row.detection.where == CASE for row in rows),
            "missed": [row.mutant.name for row in rows if not row.detection.caught],
            "refused": [row.mutant.name for row in equal if row.detection.caught],
            "equivalent": len(equal),
            "missed_by": _missed_by_rules(asked) if asked else None,
        }
    places = [entry for entry in entries if entry.place is not None]
    return {
        "formats": found,
        "located": {
            "asked": len(places),
            "right": sum(entry.place.right for entry in places if entry.place),
            "wrong": [entry.mutant.name for entry in places if entry.place and not entry.place.right],
        }
        if places
        else None,
    }


def _missed_by_rules(rows: Sequence[Row]) -> dict[str, int]:
    from parity.catalogue.fixed_rules import RULES

    return {rule.name: sum(rule.name in (row.missed_by or ()) for row in rows) for rule in RULES}
