"""The ladder's results as a table for a terminal, and as Markdown."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.cli.terminal import style
from parity.ladder import RungResult

COLUMNS = (
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
LEGEND = (
    "z: the largest; power: the relative error in the median element that would not pass; ms/step: of one document "
    "on one thread; µs/doc: in the best batch on all threads; ×: times as fast as the rung below and as the reference, "
    "with which each is timed in turns; MiB: growth of the process with batches up to 256, compiling included"
)


def rendered(results: list[RungResult]) -> Group:
    """A row for each rung, and below the table what each one changed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column, justify in COLUMNS:
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for result in results:
        name, verdict, *rest = cells(result)
        table.add_row(name, Text(verdict, style=style(result.verdict)), *rest)
    notes: list[RenderableType] = [Text(f"{r.rung.name}: {': '.join(r.rung.words)}") for r in results]
    refused = [Text(f"{r.rung.name}: {r.reason}", style="red") for r in results if not r.timing]
    return Group(table, Text(LEGEND, style="dim"), Text(), *notes, *([Text(), *refused] if refused else []))


def markdown(results: list[RungResult]) -> str:
    """The same table for a README, with the techniques, and what each changed, in place of the rungs' names."""
    lines = [
        f"| {' | '.join(column for column, _ in COLUMNS)} |",
        f"| {' | '.join('---' if justify == 'left' else '---:' for _, justify in COLUMNS)} |",
    ]
    for result in results:
        technique, changed = result.rung.words
        _, *rest = cells(result)
        lines.append(f"| **{technique}**: {changed} | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def cells(result: RungResult) -> list[str]:
    """One row; a dash for what the verdict does not allow to say."""
    timing = result.timing
    z = "-" if result.largest_z is None else f"{result.largest_z:.2g}"
    verdict = "skipped" if result.skipped else f"{result.verdict} {result.dtype}"
    row = [result.rung.name, verdict, z, f"{result.power:.0e}" if result.power else "-"]
    if timing is None:
        return row + ["-"] * (len(COLUMNS) - len(row))
    single, batched = ("-" if ratio is None else f"{ratio:.2f}" for ratio in result.step_ups)
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
