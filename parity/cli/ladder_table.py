"""The ladder's results as a table for a terminal, and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.terminal import Rows, labelled, style, verdict_line
from parity.subjects.timing import Timing
from parity.verdict import Verdict, worst
from parity.words import counted, in_few

TABLE_COLUMNS = (
    ("rung", "left"),
    ("verdict", "left"),
    ("z", "right"),
    ("power", "right"),
    ("ms/step", "right"),
    ("× below", "right"),
    ("× ref.", "right"),
    ("µs/doc", "right"),
    ("batch", "right"),
    ("× below", "right"),
    ("× ref.", "right"),
    ("MiB", "right"),
)
_TOGETHER = (3, 3, 5)
"""Of the columns beside the rung's name: what it computes, a step, and batches."""
_SKIPPED = "skipped"
_LEGEND = (
    "z: the largest; power: the relative error in the median element that would not pass; ms/step: of one document "
    "on one thread; µs/doc: in the best batch on all threads; ×: times as fast as the rung below, which it builds "
    "on, and as the reference, with which each is timed in turns; MiB: growth of the process with batches up to 256, "
    "compiling included; trainings over ranks, in float64 and in their own format, are held to one process and not "
    "timed, since the cores that they share here would time their processes"
)


def rendered(rungs: Sequence[Mapping[str, Any]]) -> Group:
    """Of rungs as `compared` gives them: what became of them all, a row for each, and below what each one changed."""
    rows: list[Sequence[str | Text]] = []
    for rung in rungs:
        name, verdict, *rest = cells(rung)
        shown = Verdict.INCONCLUSIVE if rung["verdict"] == _SKIPPED else Verdict(rung["verdict"])
        rows.append((name, Text(verdict, style(shown)), *rest))
    columns = [column for column, _ in TABLE_COLUMNS]
    table = Rows(columns, [column for column, justify in TABLE_COLUMNS if justify == "left"], rows, groups=_TOGETHER)
    untimed = [rung for rung in rungs if not rung["timing"]]
    refused = [Text(f"{r['rung']}: {r['reason']}", style="red") for r in untimed if not _passes(r)]
    notes = labelled((r["rung"], f"{r['technique']}: {r['changed']}") for r in rungs)
    held = [(r["rung"], r["reason"]) for r in untimed if _passes(r)]
    below: list[RenderableType] = ["", labelled(held)] if held else []
    return Group(_verdict(rungs), *refused, "", table, Text(_LEGEND, style="dim"), "", notes, *below)


def _passes(rung: Mapping[str, Any]) -> bool:
    return rung["verdict"] != _SKIPPED and Verdict(rung["verdict"]).passes


def _verdict(rungs: Sequence[Mapping[str, Any]]) -> Text:
    """The worst of the verdicts, and how many rungs have it."""
    ran = [rung for rung in rungs if rung["verdict"] != _SKIPPED]
    verdict = worst(Verdict(rung["verdict"]) for rung in ran)
    skipped = f"; {counted(len(rungs) - len(ran), 'rung')} skipped" if len(ran) < len(rungs) else ""
    if not ran:
        return verdict_line(verdict, f"No rung ran{skipped}.")
    if verdict.passes:
        return verdict_line(verdict, f"All that ran compute the same function: {counted(len(ran), 'rung')}{skipped}.")
    names = [rung["rung"] for rung in ran if rung["verdict"] == verdict]
    return verdict_line(verdict, f"{len(names)} of {counted(len(ran), 'rung')} that ran: {in_few(names)}{skipped}.")


def markdown(rungs: Sequence[Mapping[str, Any]]) -> str:
    """The same table for a README, with the techniques, and what each changed, in place of the rungs' names."""
    lines = [
        f"| {' | '.join(column for column, _ in TABLE_COLUMNS)} |",
        f"| {' | '.join('---' if justify == 'left' else '---:' for _, justify in TABLE_COLUMNS)} |",
    ]
    for rung in rungs:
        _, *rest = cells(rung)
        lines.append(f"| **{rung['technique']}**: {rung['changed']} | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def cells(rung: Mapping[str, Any]) -> list[str]:
    """One row; a dash for what the verdict does not allow to say."""
    z = "-" if rung["largest_z"] is None else f"{float(rung['largest_z']):.2g}"
    verdict = _SKIPPED if rung["verdict"] == _SKIPPED else f"{rung['verdict']} {rung['dtype']}"
    row = [rung["rung"], verdict, z, f"{float(rung['power']):.0e}" if rung["power"] else "-"]
    if not rung["timing"]:
        return row + ["-"] * (len(TABLE_COLUMNS) - len(row))
    timing = Timing.from_dict(rung["timing"])
    single, batched = ("-" if ratio is None else f"{ratio:.2f}" for ratio in rung["speed_up_over_rung_below"])
    return [
        *row,
        f"{timing.step * 1e3:.3g}",
        single,
        times(timing.speed_up),
        f"{timing.batches[timing.best] * 1e6:.3g}",
        f"{timing.best:,}",
        batched,
        times(timing.batch_speed_up),
        f"{timing.memory / 2**20:.0f}",
    ]


def times(ratio: float) -> str:
    """Two digits, and all that stand before the point."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"
