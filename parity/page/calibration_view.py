"""The calibration: how large z gets where nothing is wrong, false alarms, and faults beside fixed tolerances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.rendering import z_text
from parity.page.tables import Table


@dataclass(frozen=True)
class Histogram:
    """How many comparisons of a format had a largest z so large; a column for each bin, as high as its logarithm."""

    name: str
    columns: list[tuple[float, int, float]]
    """Of a bin: where it begins, how many, and how high it is drawn, in percent."""
    comparisons: int
    largest: str


@dataclass(frozen=True)
class Matrix:
    """Planted faults and what catches them. columns: by format, the criteria; rows: with a truth for each of them."""

    formats: list[str]
    criteria: list[str]
    rows: list[tuple[str, list[bool]]]
    alarms: list[str]
    """Of every column: how many correct comparisons it refuses."""
    caught: list[str]


@dataclass(frozen=True)
class CalibrationView:
    """All of it."""

    histograms: list[Histogram]
    last_bin: float
    table: Table
    matrix: Matrix


def calibration_view(found: dict[str, Any]) -> CalibrationView:
    """As `benchmarks.calibrate` writes it."""
    bins = found["histogram_of_largest_z"]
    last = max(float(start) for counts in bins.values() for start in counts)
    highest = max(count for counts in bins.values() for count in counts.values())
    histograms = [
        Histogram(name, _columns(counts, last, highest), found["comparisons"][name], z_text(found["largest_z"][name]))
        for name, counts in bins.items()
    ]
    return CalibrationView(histograms, last, markdown_table(found["table"]), _matrix(found))


def markdown_table(lines: Sequence[str]) -> Table:
    """The first table of Markdown, up to a blank line."""
    end = lines.index("") if "" in lines else len(lines)
    rows = [line.strip("| ").split(" | ") for line in lines[:end]]
    head, _, *others = rows
    return Table(head, [head[0]], others)


def _columns(counts: dict[str, int], last: float, highest: int) -> list[tuple[float, int, float]]:
    starts = [place / 2 for place in range(int(last * 2) + 1)]
    by_start = {float(start): count for start, count in counts.items()}
    full = math.log1p(highest)
    return [
        (start, by_start.get(start, 0), round(100 * math.log1p(by_start.get(start, 0)) / full, 1)) for start in starts
    ]


def _matrix(found: dict[str, Any]) -> Matrix:
    faults = found["caught"]
    formats = list(next(iter(faults.values())))
    criteria = list(next(iter(faults.values()))[formats[0]])
    columns = [(form, criterion) for form in formats for criterion in criteria]
    rows = [(name, [by_format[form][criterion] for form, criterion in columns]) for name, by_format in faults.items()]
    alarms = [f"{found['false_alarms'][criterion][form]:,}" for form, criterion in columns]
    caught = [str(sum(row[place] for _, row in rows)) for place in range(len(columns))]
    return Matrix(formats, criteria, rows, alarms, caught)
