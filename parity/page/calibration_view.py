"""The calibration: how large z gets where nothing is wrong, false alarms, and faults beside fixed tolerances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.histogram import Column, Histogram, Panel
from parity.page.rendering import z_text
from parity.page.tables import LinearAxis, LogAxis, Table


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
    """All of it. bins: the numbers of the upper panels, tail: of the lower ones; thicker: what the tails say."""

    histograms: list[Histogram]
    bins: Table
    tail: Table
    thicker: list[str]
    table: Table
    matrix: Matrix


def calibration_view(found: dict[str, Any], limit: float | None) -> CalibrationView:
    """As `benchmarks.calibrate` writes it. limit: that of a default check, if it is known."""
    bins, tail = found["histogram_of_largest_z"], _tail(found)
    last = math.ceil(max([limit or 0.0, *(float(start) for counts in bins.values() for start in counts)])) + 1
    axis = LinearAxis(0, last, 2)
    highest = math.log10(max(count for counts in bins.values() for count in counts.values()))
    assumed = _assumed(tail)
    histograms = []
    for name, counts in bins.items():
        columns = [Column(float(start), float(start) + 0.5, count) for start, count in counts.items()]
        elements, beyond = found["elements_of_first_steps"][name], found["elements_beyond"][name]
        shares = [Column(float(z) - 0.3, float(z) + 0.3, count / elements) for z, count in beyond.items()]
        panels = [
            Panel("comparisons, by their largest z", columns, LogAxis(-0.3, math.ceil(highest))),
            Panel("share of single elements beyond z", shares, LogAxis(-14, 0), assumed),
        ]
        about = f"{found['comparisons'][name]:,} comparisons, largest z {z_text(found['largest_z'][name])}"
        drawn = None if limit is None else (limit, f"limit {limit:.1f}")
        histograms.append(Histogram(name, about, panels, axis, "z", drawn))
    return CalibrationView(
        histograms, _bins(bins), tail, _thicker(found, assumed), markdown_table(found["table"]), _matrix(found)
    )


def _tail(found: dict[str, Any]) -> Table:
    return markdown_table(found["tail"])


def _assumed(tail: Table) -> list[tuple[float, float]]:
    """Of the assumed distribution, how much of it lies beyond each z."""
    return [(float(z), float(share)) for z, share in zip(tail.columns[1:], tail.rows[0][1:], strict=True)]


def _thicker(found: dict[str, Any], assumed: Sequence[tuple[float, float]]) -> list[str]:
    """By format, from which z on more elements lie beyond it than is assumed, and how many of how many."""
    said = []
    for name, beyond in found["elements_beyond"].items():
        elements = found["elements_of_first_steps"][name]
        more = [z for z, share in assumed if beyond[f"{z:g}"] > share * elements]
        if more:
            said.append(f"{name} from z {more[0]:g} on, {beyond[f'{more[0]:g}']} of {elements:,}")
    return said


def _bins(bins: dict[str, dict[str, int]]) -> Table:
    """How many comparisons of each format have their largest z in which half."""
    starts = sorted({float(start) for counts in bins.values() for start in counts})
    known = {name: {float(start): count for start, count in counts.items()} for name, counts in bins.items()}
    rows = [[name, *(f"{counts.get(start, 0):,}" for start in starts)] for name, counts in known.items()]
    return Table(["format", *(f"{start:g}" for start in starts)], ["format"], rows)


def markdown_table(lines: Sequence[str]) -> Table:
    """The first table of Markdown, up to a blank line."""
    end = lines.index("") if "" in lines else len(lines)
    rows = [line.strip("| ").split(" | ") for line in lines[:end]]
    head, _, *others = rows
    return Table(head, [head[0]], others)


def _matrix(found: dict[str, Any]) -> Matrix:
    faults = found["caught"]
    formats = list(next(iter(faults.values())))
    criteria = list(next(iter(faults.values()))[formats[0]])
    columns = [(form, criterion) for form in formats for criterion in criteria]
    rows = [(name, [by_format[form][criterion] for form, criterion in columns]) for name, by_format in faults.items()]
    alarms = [f"{found['false_alarms'][criterion][form]:,}" for form, criterion in columns]
    caught = [str(sum(row[place] for _, row in rows)) for place in range(len(columns))]
    return Matrix(formats, criteria, rows, alarms, caught)
