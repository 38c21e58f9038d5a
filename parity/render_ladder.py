"""The ladder's results as a table for a terminal, and as Markdown."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.ladder import RungResult
from parity.render import style

COLUMNS = {
    "rung": "left",
    "verdict": "left",
    "z": "right",
    "would catch": "right",
    "ms/step": "right",
    "× below": "right",
    "× reference": "right",
    "µs/doc": "right",
    "at batch": "right",
    "MiB": "right",
}


def rendered(results: list[RungResult]) -> Group:
    """A row for each rung, and below the table what each one changed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in COLUMNS.items():
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for result in results:
        name, verdict, *rest = cells(result)
        table.add_row(name, Text(verdict, style=style(result.verdict)), *rest)
    notes: list[RenderableType] = [Text(f"{r.rung.name}: {': '.join(r.rung.words)}") for r in results]
    refused = [Text(f"{r.rung.name}: {r.reason}", style="red") for r in results if not r.timing]
    return Group(table, *notes, *([Text(), *refused] if refused else []))


def markdown(results: list[RungResult]) -> str:
    """The same table for a README, with the techniques in place of the rungs' names."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' if j == 'left' else '---:' for j in COLUMNS.values())} |",
    ]
    for result in results:
        technique, _ = result.rung.words
        _, *rest = cells(result)
        lines.append(f"| {technique} | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def cells(result: RungResult) -> list[str]:
    """One row; a dash for what the verdict does not allow to say."""
    timing = result.timing
    z = "-" if result.largest_z is None else f"{result.largest_z:.2g}"
    verdict = "skipped" if result.skipped else f"{result.verdict} {result.dtype}"
    row = [result.rung.name, verdict, z, f"{result.power:.0e}" if result.power else "-"]
    if timing is None:
        return row + ["-"] * (len(COLUMNS) - len(row))
    return [
        *row,
        f"{timing.step * 1e3:.3g}",
        f"{result.step_up:.2f}" if result.step_up else "-",
        f"{result.speed_up:,.0f}" if result.speed_up and result.speed_up >= 100 else f"{result.speed_up:.2g}",
        f"{timing.batches[timing.best] * 1e6:.3g}",
        f"{timing.best:,}",
        f"{timing.memory / 2**20:.0f}",
    ]
