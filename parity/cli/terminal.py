"""What all that is printed has in common: where it goes, how wide it is, how a table looks, the colour of a verdict.

On a terminal everything is as wide as that, from 60 columns on: sentences are wrapped between words, and a table that
is too wide goes on in others below it, or has a paragraph for each row. Elsewhere nothing is wrapped: a sentence, or a
row of a table, is one line, however long, so that whoever searches a log finds it, whatever the terminal beside it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from parity.verdict import Verdict

_STYLES = {Verdict.IDENTICAL: "bold green", Verdict.PARITY: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
_BULLET = "-"
_ENDLESS = 100_000
"""Columns where the output is not a terminal."""
_GAP = 2
"""Between columns, and at both ends of a table together."""
_READABLE = 20
"""Columns of text that are enough to read it in."""


def console(stderr: bool = False) -> Console:
    """Where results go: as wide as the terminal, or else without end."""
    terminal = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=_ENDLESS)


def show(renderable: RenderableType) -> None:
    """Print a result; where it is longer than the terminal is high, its verdict once more at the end."""
    output = console()
    output.print(Trimmed(renderable))
    if output.is_terminal and isinstance(renderable, Group):
        first, *_ = renderable.renderables
        if len(output.render_lines(renderable, pad=False)) >= output.height:
            output.print()
            output.print(Trimmed(first))


class Trimmed:
    """Something without the blanks that its lines would end with, and with no more than one empty line at a time."""

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is shown."""
        begun = gap = False
        for line in console.render_lines(self.renderable, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if not line:
                gap = begun
                continue
            if gap:
                yield Segment.line()
            begun, gap = True, False
            *others, last = line
            yield from others
            yield Segment(last.text.rstrip(), last.style)
            yield Segment.line()


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
    grid = Table.grid("", Column(overflow="fold"), padding=(0, 2))
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
            if Measurement.get(console, options.update(width=_ENDLESS), shown).maximum <= options.max_width:
                break
        yield shown


class Rows:
    """A table, in which no number and no name is cut or broken, however narrow it is.

    words: the columns that hold words, to the left; numbers stand to the right. groups: how many columns at a time
    belong together, the first one aside. Where it is too wide, columns go on in another table below, whose first column
    is the same; or, stacked, each row becomes a paragraph.
    """

    def __init__(
        self,
        columns: Sequence[str],
        words: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        title: str | None = None,
        *,
        groups: Sequence[int] = (),
        stacked: bool = False,
    ) -> None:
        self.columns, self.words, self.rows, self.title = list(columns), words, list(rows), title
        self.groups, self.stacked = groups, stacked

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as it is where there is room."""
        return Measurement(1, sum(_GAP + self._most(number) for number in range(len(self.columns))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is shown."""
        if self.title:
            yield Text(self.title, "bold")
        tables = list(self._fitting(options.max_width))
        if self.stacked and len(tables) > 1:
            yield from map(self._paragraph, self.rows)
            yield ""
        else:
            yield from (self._table(numbers, options.max_width) for numbers in tables)

    def _fitting(self, width: int) -> Iterator[list[int]]:
        """The columns of each table, groups of them as long as there is room."""
        rest, groups = list(range(1, len(self.columns))), list(self.groups)
        first = _GAP + self._least(0, width)
        numbers, used = [0], first
        while rest:
            size = groups.pop(0) if groups else 1
            group, rest = rest[:size], rest[size:]
            needed = sum(_GAP + self._least(number, width) for number in group)
            if used + needed > width and len(numbers) > 1:
                yield numbers
                numbers, used = [0], first
            numbers, used = [*numbers, *group], used + needed
        yield numbers

    def _least(self, number: int, width: int) -> int:
        """The columns that a column needs: all of a number or a name, and of text so much that it can be read."""
        heading, cells = self.columns[number], [str(row[number]) for row in self.rows]
        longest = max(map(len, heading.split()))
        if heading not in self.words:
            return max([longest, *map(len, cells)])
        unbroken = max([len(word) for cell in cells for word in cell.split()], default=0)
        text = min(max(map(len, cells), default=0), _READABLE)
        return max(longest, min(max(unbroken, text), max(_READABLE, width // 2)))

    def _most(self, number: int) -> int:
        return max([len(self.columns[number]), *(len(str(row[number])) for row in self.rows)])

    def _widths(self, numbers: Sequence[int], width: int) -> dict[int, int]:
        """How wide each column is: where room is short, headings of numbers are wrapped first, and then text."""
        found = {number: self._most(number) for number in numbers}
        least = {number: self._least(number, width) for number in numbers}
        for words in (False, True):
            shrinking = [number for number in numbers if (self.columns[number] in self.words) is words]
            while sum(_GAP + found[number] for number in numbers) > width:
                widest = max(shrinking, key=lambda number: found[number] - least[number], default=None)
                if widest is None or found[widest] <= least[widest]:
                    break
                found[widest] -= 1
        return found

    def _table(self, numbers: Sequence[int], width: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, wide in self._widths(numbers, width).items():
            heading = self.columns[number]
            justify: Literal["left", "right"] = "left" if heading in self.words else "right"
            table.add_column(heading, justify=justify, width=wide, overflow="fold")
        for row in self.rows:
            cells = (row[number] for number in numbers)
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
        return table

    def _paragraph(self, row: Sequence[str | Text]) -> RenderableType:
        first, *cells = map(str, row)
        said = [f"{name}: {cell.removesuffix('.')}" for name, cell in zip(self.columns[1:], cells, strict=True) if cell]
        return Group(Text(first, "bold"), Padding(Text("; ".join(said)), (0, 0, 0, 2)))
