"""The detection matrix of the catalogue: what a check shows each known mistake by, and which fixed rules miss it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.calibration_view import markdown_table
from parity.page.histogram import Column, Histogram, Panel
from parity.page.rendering import number, short, z_text
from parity.page.tables import LogAxis, Table

CHECK = "check"
_DOCUMENTS = "10"
"""Over which the evidence is drawn."""
_AXIS = LogAxis(-1, 4)
_BINS = 4
"""To a power of ten."""


@dataclass(frozen=True)
class Cell:
    """So many of a stage's mistakes are caught. level: "hit" where all are, "some" where most are, or "miss"."""

    text: str
    level: str


@dataclass(frozen=True)
class Stages:
    """Of a format, a row for each stage of the computation: its mistakes, and what catches how many of them."""

    form: str
    rows: list[tuple[str, list[Cell]]]
    sums: list[str]


@dataclass(frozen=True)
class Mistake:
    """A row of the matrix. caught: by the check, and by each rule; evidence: over 1, 10 and 100 documents."""

    name: str
    stage: str
    shown: str
    z: str
    where: str
    caught: list[bool]
    evidence: list[str]


@dataclass(frozen=True)
class RightAnswers:
    """How far right answers lie from what is expected, all elements together. columns: by format, with how many."""

    table: Table
    columns: dict[str, tuple[int, list[Column]]]


@dataclass(frozen=True)
class MatrixView:
    """columns: the check and the rules. counts: a row for each format."""

    columns: list[str]
    counts: Table
    missed: list[tuple[str, list[str]]]
    """By format, the names of those that nothing shows."""
    rules: list[tuple[str, str]]
    refused: list[tuple[str, list[str]]]
    """By format, the rules that refuse the twin, which is right."""
    stages: list[Stages]
    mistakes: list[tuple[str, list[Mistake]]]
    evidence: list[Histogram]
    right: Table | None


def right_answers(found: dict[str, Any]) -> RightAnswers:
    """As `benchmarks.calibrate_evidence` writes it."""
    columns = {
        form: [Column(max(float(start), 10**_AXIS.first), float(start) + 0.5, count) for start, count in counts.items()]
        for form, counts in found["histogram_of_largest_z"].items()
    }
    numbers = {form: (int(found["comparisons"][form]), of_form) for form, of_form in columns.items()}
    return RightAnswers(markdown_table(found["table"]), numbers)


def matrix_view(found: dict[str, Any], right: RightAnswers | None = None) -> MatrixView:
    """As `parity mutants --json` writes it."""
    formats, rules = found["summary"]["formats"], list(found["rules"])
    counts = Table(["format", "mistakes", "caught", "by the case alone", *rules])
    for form, row in formats.items():
        missed = row["missed_by"] or {}
        numbers = [row["mistakes"], row["caught"], row["caught_by_case"], *(missed.get(rule, "-") for rule in rules)]
        counts.rows.append([form, *map(str, numbers)])
    by_format = [(form, _mistakes(found, place, rules)) for place, form in enumerate(found["dtypes"])]
    asked = any(row["missed_by"] is not None for entry in found["mutants"] for row in entry["formats"])
    columns = [CHECK, *(rules if asked else ())]
    refusing = found.get("rules_refusing_the_twin", {})
    return MatrixView(
        columns,
        counts,
        [(form, row["missed"]) for form, row in formats.items() if row["missed"]],
        list(found["rules"].items()),
        [(form, names) for form, names in refusing.items() if names],
        [_stages(form, mistakes) for form, mistakes in by_format],
        by_format,
        [_evidence(found, place, right) for place in range(len(found["dtypes"]))],
        right.table if right else None,
    )


def _mistakes(found: dict[str, Any], place: int, rules: Sequence[str]) -> list[Mistake]:
    """Of a format, those that are no equivalent change."""
    mistakes = []
    for entry in found["mutants"]:
        row = entry["formats"][place]
        if row["equivalent"]:
            continue
        missed_by = row["missed_by"]
        caught = [row["caught"], *(rule not in missed_by for rule in rules if missed_by is not None)]
        evidence = row.get("evidence") or {}
        seen = [short(evidence[count]) if count in evidence else "-" for count in ("1", _DOCUMENTS, "100")]
        shown = row["first"] if row["caught"] else "missed"
        mistakes.append(Mistake(entry["name"], entry["stage"], shown, z_text(row["z"]), row["where"], caught, seen))
    return mistakes


def _stages(form: str, mistakes: Sequence[Mistake]) -> Stages:
    """How many of each stage are caught."""
    rows = []
    for stage in dict.fromkeys(mistake.stage for mistake in mistakes):
        of_stage = [mistake.caught for mistake in mistakes if mistake.stage == stage]
        cells = [_cell(sum(column), len(of_stage)) for column in zip(*of_stage, strict=True)]
        rows.append((f"{stage} ({len(of_stage)})", cells))
    sums = [str(sum(column)) for column in zip(*(mistake.caught for mistake in mistakes), strict=True)]
    return Stages(form, rows, sums)


def _cell(caught: int, of: int) -> Cell:
    return Cell(str(caught), "hit" if caught == of else "some" if 2 * caught > of else "miss")


def _evidence(found: dict[str, Any], place: int, right: RightAnswers | None) -> Histogram:
    """How far right answers lie from what is expected, all elements together, and how far mistakes do."""
    form = found["dtypes"][place]
    rows = [row for entry in found["mutants"] if not (row := entry["formats"][place])["equivalent"]]
    asked = [number(row["evidence"][_DOCUMENTS]) for row in rows if row.get("evidence")]
    limits = [number(row["evidence_limit"]) for row in rows if row.get("evidence_limit")]
    start = math.log10(limits[0]) if limits else 0.0  # so that no column lies on both sides of the limit
    bins = Counter(_bin(z, start) for z in asked)
    wrong = [Column(10 ** (start + low / _BINS), 10 ** (start + (low + 1) / _BINS), n, 1) for low, n in bins.items()]
    panels = [Panel(f"known mistakes, over {_DOCUMENTS} documents", wrong, LogAxis(-0.3, 2))]
    about = f"{len(asked)} mistakes that the case makes"
    if right and form in right.columns:
        comparisons, columns = right.columns[form]
        panels.insert(0, Panel("right answers, by their largest z", columns, LogAxis(-0.3, 4)))
        about = f"{comparisons:,} right answers, {about}"
    limit = (limits[0], f"limit {limits[0]:.1f}") if limits else None
    return Histogram(form, about, panels, _AXIS, "z of all elements together", limit)


def _bin(z: float, start: float) -> int:
    """Of columns that are equally wide on a logarithmic axis; what is beyond an end of it is in the last one there."""
    first, last = math.floor((_AXIS.first - start) * _BINS), math.ceil((_AXIS.last - start) * _BINS) - 1
    if not z > 0:
        return first
    return min(last, max(first, math.floor((math.log10(z) - start) * _BINS))) if math.isfinite(z) else last
