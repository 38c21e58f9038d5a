"""What all that is printed has in common: where it goes, how a table looks, the colour of a verdict."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.verdict import Verdict

_STYLES = {Verdict.IDENTICAL: "bold green", Verdict.PARITY: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
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


def table_of(columns: Sequence[str], words: Sequence[str], title: str | None = None) -> Table:
    """An empty table; numbers stand to the right, words (the names of such columns) to the left."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right")
    return table
