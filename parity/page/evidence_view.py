"""What a check says for and against mistakes, all elements together: along directions, and of each known mistake."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.catalogue.mutants import MUTANTS
from parity.judging.directions import Direction
from parity.page.quantities import Mode
from parity.page.rendering import number, z_text
from parity.page.tables import Bar, LinearAxis, LogAxis, Table


@dataclass(frozen=True)
class Intervals:
    """A chart of dots, each beside what rounding explains, and the same numbers as a table."""

    title: str
    axis: LinearAxis | LogAxis
    bars: list[Bar]
    table: Table


@dataclass(frozen=True)
class EvidenceView:
    """known: of how many mistakes something is said; left: those of them that are not excluded, in sentences."""

    known: int
    excluded: int
    left: list[str]
    mistakes: Intervals | None
    directions: list[Intervals]
    """By mode."""
    seen: str
    """From where on a whole tensor's scale is seen."""


def evidence_view(modes: Sequence[Mode], excluded: dict[str, Any] | None) -> EvidenceView | None:
    """Of a check; None where nothing was seen of its elements together."""
    along = [directions(mode["mode"], mode["evidence"]) for mode in modes if mode.get("evidence")]
    if not along and not excluded:
        return None
    known = excluded or {"known": 0, "excluded": 0, "undecided": [], "weighed": {}}
    return EvidenceView(
        known["known"],
        known["excluded"],
        [MUTANTS[name].mistake if name in MUTANTS else name for name in known["undecided"]],
        _weighed(known["weighed"]) if known["weighed"] else None,
        along,
        next((_seen(mode["evidence"]) for mode in modes if mode.get("evidence")), ""),
    )


def directions(title: str, evidence: Sequence[dict[str, Any]]) -> Intervals:
    """How much of each direction was seen, and what of it rounding explains."""
    axis = LogAxis.around([number(along["allowed"]) for along in evidence if number(along["allowed"])])
    table = Table(["direction", "seen", "sd", "rounding explains", "z", "limit"], ["direction"])
    bars = []
    for along in evidence:
        name = in_words(along)
        amount, allowed = abs(number(along["amount"])), number(along["allowed"])
        verdict, colour = ("DIVERGED", "series1") if along["beyond"] else (None, "series0")
        said = f"{allowed:.2g}" if not along["beyond"] else f"{number(along['amount']):.2g}"
        bars.append(Bar(name, said, 0.0, axis.place(allowed), verdict, colour, axis.place(amount)))
        cells = (f"{number(along[what]):.1e}" for what in ("amount", "sd", "allowed"))
        table.rows.append([name, *cells, z_text(along["z"]), f"{number(along['limit']):.1f}"])
    return Intervals(title, axis, bars, table)


def in_words(along: dict[str, Any]) -> str:
    """A direction as it is stored, in words."""
    direction = Direction(along["quantity"], along["tensor"], along["what"])
    return f"{direction.of}: {direction.what}"


def _seen(evidence: Sequence[dict[str, Any]]) -> str:
    """Of the scales of gradient tensors."""
    tensors = sorted(number(along["allowed"]) for along in evidence if along["tensor"] and along["what"] == "scale")
    return f"{tensors[0]:.2g} to {tensors[-1]:.2g}" if tensors else ""


def _weighed(weighed: dict[str, dict[str, Any]]) -> Intervals:
    """How much of each known mistake was seen: 0 where it is not made, 1 where it is."""
    axis = LinearAxis(-0.5, 1.5, 0.5)
    table = Table(["mistake", "seen (alpha)", "sd", "shared", "documents", "more documents would decide", "excluded"])
    table.words = ("mistake", "excluded")
    bars = []
    for name, found in weighed.items():
        alpha, allowed = number(found["alpha"]), number(found["limit"]) * number(found["sd"]) + number(found["shared"])
        said = "excluded" if found["excluded"] else "seen" if found["seen"] else "undecided"
        colour = "series0" if found["excluded"] else "series1" if found["seen"] else "series4"
        start, end = axis.place(alpha - allowed), axis.place(alpha + allowed)
        bars.append(Bar(name, f"{alpha:.2g} {said}", start, end, None, colour, axis.place(alpha)))
        more = found["more_documents"]
        cells = (f"{number(found[what]):.2g}" for what in ("alpha", "sd", "shared"))
        documents = (f"{found['documents']:,}", "-" if more is None else f"{more:,}")
        table.rows.append([name, *cells, *documents, said])
    return Intervals("known mistakes", axis, bars, table)
