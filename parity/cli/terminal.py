"""What all that is printed has in common: where it goes, how a table looks, the colour of a verdict."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parity.verdict import Verdict

_STYLES = {Verdict.IDENTICAL: "bold green", Verdict.PARITY: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
_BULLET = "-"
_LOG_WIDTH = 118
"""Columns where the output is not a terminal."""


def console(stderr: bool = False) -> Console:
    """Where results go: as wide as the terminal, or as a log."""
    terminal = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=_LOG_WIDTH)


def style(verdict: Verdict) -> str:
    """The colour of a verdict."""
    return _STYLES.get(verdict, "bold red")


def coloured(verdict: Verdict) -> Text:
    """A verdict in its colour."""
    return Text(verdict.value, style=style(verdict))


def verdict_line(verdict: Verdict, reason: str) -> Text:
    """The verdict, and why."""
    return Text.assemble(coloured(verdict), f": {reason}")


def labelled(lines: Iterable[tuple[str, str]]) -> Table:
    """Lines with a label each; what does not fit goes on below, beside the label."""
    grid = Table.grid(padding=(0, 2))
    before = None
    for label, text in lines:
        grid.add_row(Text("" if label == before else label), Text(text))
        before = label if label != _BULLET else None
    return grid


def listed(phrases: Iterable[str]) -> Table:
    """Phrases below each other."""
    return labelled((_BULLET, phrase) for phrase in phrases)


class FirstThatFits:
    """The first of some renderables that is no wider than the terminal, or else the last one."""

    def __init__(self, *widest_first: RenderableType) -> None:
        self.widest_first = widest_first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is shown."""
        for shown in self.widest_first:
            if Measurement.get(console, options.update(width=10_000), shown).maximum <= options.max_width:
                break
        yield shown


def filled(columns: Sequence[str], words: Sequence[str], rows: Iterable[Sequence[str]], title: str | None) -> Table:
    """A table with these rows, in which neither numbers nor the words of headings are cut where room is short."""
    table = table_of(columns, words, title)
    for row in rows:
        table.add_row(*row)
    for column in table.columns:
        cells = [] if column.header in words else map(str, column.cells)
        column.min_width = max(map(len, (*str(column.header).split(), *cells)))
        column.overflow = "fold"
    return table


def table_of(columns: Sequence[str], words: Sequence[str], title: str | None = None) -> Table:
    """An empty table; numbers stand to the right, words (the names of such columns) to the left."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.title_justify, table.title_style = "left", "bold"
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right")
    return table
