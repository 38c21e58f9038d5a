"""The ladder and the public ports: bars of how many times as fast as the reference, beside their verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.rendering import number, order, short, z_text
from parity.page.tables import Bar, LogAxis, Table
from parity.verdict import Verdict

_SKIPPED = "skipped"


@dataclass(frozen=True)
class Chart:
    """Bars that share an axis."""

    axis: LogAxis
    bars: list[Bar]


@dataclass(frozen=True)
class LadderView:
    """steps: of one document each, rungs and ports. batches: a document in the best batch of a rung.

    ran, passed: of the rungs that are held to the reference.
    """

    steps: Chart
    batches: Chart
    refused: list[tuple[str, str]]
    """Ports that show no speed, and why."""
    table: Table
    skipped: list[tuple[str, str]]
    parallel: list[tuple[str, str, str]]
    """Rungs over ranks, which are held to one process, and of which no speed is shown: each with verdict and z."""
    ran: int
    passed: int
    best: dict[str, Any]
    """The rung that is fastest."""


@dataclass(frozen=True)
class PortsView:
    """The ports as rows, for a table that has links."""

    rows: list[dict[str, Any]]
    passed: int


def ladder_view(ladder: dict[str, Any], ports: Sequence[dict[str, Any]]) -> LadderView:
    """Rungs as `parity ladder --json` writes them, and ports; a speed is shown only of what is in parity."""
    rungs = ladder["rungs"]
    all_that_ran = [rung for rung in rungs if rung["verdict"] != _SKIPPED]
    ran = [rung for rung in all_that_ran if not rung.get("ranks")]
    timed = [rung for rung in ran if rung["timing"]]
    singles = [(rung["technique"], rung["speed_up_over_reference"][0], rung["verdict"], "series0") for rung in timed]
    singles += [(_name(port), port["seconds"]["speed_up"], port["verdict"], "series1") for port in _timed(ports)]
    batches = [(rung["technique"], rung["speed_up_over_reference"][1], rung["verdict"], "series0") for rung in timed]
    table = Table(
        [
            *("rung", "verdict", "z", "power", "ms a step", "× reference"),
            *("µs a document", "batch", "× reference in batches", "MiB"),
        ],
        ["rung", "verdict"],
        [_cells(rung) for rung in all_that_ran],
    )
    refused = [(_name(port), port["verdict"]) for port in ports if not Verdict(port["verdict"]).passes]
    return LadderView(
        _chart(sorted(singles, key=lambda row: row[1])),
        _chart(batches),
        refused,
        table,
        [(rung["technique"], rung["reason"]) for rung in rungs if rung["verdict"] == _SKIPPED],
        [_over_ranks(rung) for rung in all_that_ran if rung.get("ranks")],
        len(ran),
        sum(Verdict(rung["verdict"]).passes for rung in ran),
        max(timed, key=lambda rung: max(rung["speed_up_over_reference"])),
    )


def ports_view(found: dict[str, Any]) -> PortsView:
    """The ports with what deviates, and where the code is that was checked."""
    rows = [
        {
            "name": _name(port),
            "link": f"https://github.com/{port['port']}/blob/{port['commit']}/{port['file']}",
            "language": port["language"],
            "verdict": port["verdict"],
            "dtype": port["dtype"],
            "z": z_text(port["largest_z"]),
            "deviates": port["deviates"],
            "corrected": port.get("corrected_verdict", ""),
            "speed": times(port["seconds"]["speed_up"]) if "seconds" in port else "-",
        }
        for port in found["ports"]
    ]
    return PortsView(rows, sum(Verdict(row["verdict"]).passes for row in rows))


def times(ratio: float) -> str:
    """Two digits, and all that stand before the point."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"


def _over_ranks(rung: dict[str, Any]) -> tuple[str, str, str]:
    z = z_text(rung["largest_z"])
    return f"{rung['technique']} ({rung['ranks']} ranks, {rung['dtype']})", rung["verdict"], z


def _timed(ports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [port for port in ports if Verdict(port["verdict"]).passes and port.get("seconds")]


def _name(port: dict[str, Any]) -> str:
    return f"{port['port']} ({port['language']})"


def _chart(rows: Sequence[tuple[str, float, str, str]]) -> Chart:
    """Bars that begin at 1: to the right is faster than the reference, to the left slower."""
    axis = LogAxis.around([1.0, *(ratio for _, ratio, _, _ in rows)])
    bars = []
    for name, ratio, verdict, colour in rows:
        start, end = sorted((axis.place(1.0), axis.place(ratio)))
        bars.append(Bar(name, f"{times(ratio)}×", start, end, verdict, colour))
    return Chart(axis, bars)


def _cells(rung: dict[str, Any]) -> list[str]:
    timing = rung["timing"]
    cells = [rung["technique"], f"{rung['verdict']} {rung['dtype']}", z_text(rung["largest_z"]), order(rung["power"])]
    if not timing:
        return [*cells, *["-"] * 6]
    single, batched = rung["speed_up_over_reference"]
    document = number(timing["batches"][str(timing["best"])])
    return [
        *cells,
        short(timing["step"] * 1e3),
        times(single),
        short(document * 1e6),
        f"{timing['best']:,}",
        times(batched),
        f"{timing['memory'] / 2**20:.0f}",
    ]
