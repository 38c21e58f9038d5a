"""Wrong implementations by another hand: how many are refused, placed where they are wrong, and named."""

from dataclasses import dataclass
from typing import Any

from parity.page.tables import Table

_SUMMARY = {"checks": "checks", "refused": "refused", "located": "placed", "right": "named", "wrong": "named wrongly"}
"""Keys of the stored summary, and what they are called."""


@dataclass(frozen=True)
class ScoresView:
    """kinds: a row for each kind of implementation. implementations: a row for each check."""

    kinds: Table
    implementations: Table


def scores_view(found: dict[str, Any]) -> ScoresView:
    """As `benchmarks.scores` writes it."""
    kinds = Table(["mistakes", *_SUMMARY.values()], ["mistakes"])
    for row in found["summary"]:
        kinds.rows.append([row["kind"], *(str(row[key]) for key in _SUMMARY)])
    columns = ["what is wrong", "in", "verdict", "begins at", "placed", "named"]
    table = Table(columns, columns)
    for row in found["implementations"]:
        placed = "right" if row["located"] else f"should be {row['should_begin_at']}"
        named = ", ".join(row["names"]) or ("given up" if row["gave_up"] else "nothing")
        cells = [row["how"], f"{row['language']}, {row['dtype']}", row["verdict"], ", ".join(row["begins_at"])]
        table.rows.append([*cells, placed, named])
    return ScoresView(kinds, table)
