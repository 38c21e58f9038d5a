"""The detection matrix of the catalogue: what a check shows each known mistake by, and which fixed rules miss it."""

from dataclasses import dataclass
from typing import Any

from parity.page.rendering import z_text
from parity.page.tables import Table


@dataclass(frozen=True)
class MatrixView:
    """counts: a row for each format. mistakes: for each format a table with a row for each mistake."""

    counts: Table
    missed: list[tuple[str, list[str]]]
    """By format, the names of those that nothing shows."""
    rules: list[tuple[str, str]]
    mistakes: list[tuple[str, Table]]


def matrix_view(found: dict[str, Any]) -> MatrixView:
    """As `parity mutants --json` writes it."""
    formats, rules = found["summary"]["formats"], found["rules"]
    counts = Table(["format", "mistakes", "caught", "by the case alone", *rules])
    for form, row in formats.items():
        missed = row["missed_by"] or {}
        numbers = [row["mistakes"], row["caught"], row["caught_by_case"], *(missed.get(rule, "-") for rule in rules)]
        counts.rows.append([form, *map(str, numbers)])
    tables = []
    for place, form in enumerate(found["dtypes"]):
        table = Table(["mistake", "stage", "shows in", "z", "of the", "missed by"], [])
        table.words = [column for column in table.columns if column != "z"]
        for entry in found["mutants"]:
            row = entry["formats"][place]
            shown = row["first"] if row["caught"] else "same" if row["equivalent"] else "missed"
            missed_by = ", ".join(row["missed_by"] or ())
            table.rows.append([entry["name"], entry["stage"], shown, z_text(row["z"]), row["where"], missed_by])
        tables.append((form, table))
    missed_by_format = [(form, row["missed"]) for form, row in formats.items() if row["missed"]]
    return MatrixView(counts, missed_by_format, list(rules.items()), tables)
