"""What takes longer than a moment, with the time that remains, on standard error where that is a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text
from typing_extensions import override

from parity.cli.streams import complain
from parity.cli.terminal import console
from parity.machine_code import compile_timer
from parity.progress import watched

_A_MOMENT = 0.5
"""Seconds that something takes before it is shown."""
_WORTH_TELLING = 2.0
"""Seconds of compiling, which the next run need not wait for, that are told in the end."""
_BAR, _BESIDE = 24, 54
"""Columns of a bar where there is room, and of what stands beside it."""


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show the work that is done meanwhile (`parity.progress`); gives what is told the name of each larger part.

    Nothing is shown where standard error is no terminal. How long the oracle took to compile, if it did, is said
    afterwards.
    """
    compiled: list[float] = []
    shows = is_terminal()
    errors = console(stderr=True)
    with Bars(errors, disable=not shows) as bars, watched(bars if shows else None), compile_timer(compiled):
        yield bars.phase
    if sum(compiled) > _WORTH_TELLING:
        complain(f"The oracle was compiled in {sum(compiled):.1f} s; the next run finds it on disk.")


def is_terminal() -> bool:
    """Whether somebody watches standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


class Bars(Progress):
    """A line for the part that is at hand, and below it a bar for each work within it."""

    def __init__(self, console: Console, **options: Any) -> None:
        width = max(4, min(_BAR, console.width - _BESIDE))
        what = TextColumn(
            "{task.description}", markup=False, table_column=Column()
        )  # it is wrapped where room is short, nothing else
        numbers = (number(table_column=Column(no_wrap=True)) for number in (_Done, _Left))
        columns = (SpinnerColumn(), what, BarColumn(width), *numbers)
        super().__init__(*columns, console=console, transient=True, **options)
        self._phase = None if self.disable else self.add_task("", total=None, visible=False)

    def phase(self, what: str) -> None:
        """A larger part begins, of which nobody knows how long it takes; what stands after a colon is one of it."""
        if self._phase is None:
            return
        if what.partition(":")[0] != self.tasks[0].description.partition(":")[0]:
            self.reset(self._phase, visible=True)
        self.update(self._phase, description=what)

    def begin(self, what: str, parts: int) -> int:
        """See `parity.progress.Watcher`."""
        return self.add_task(what, total=parts)

    def part_is_done(self, number: int) -> None:
        """See `parity.progress.Watcher`."""
        self.advance(number)  # type: ignore[arg-type]

    def end(self, number: int) -> None:
        """See `parity.progress.Watcher`."""
        self.remove_task(number)  # type: ignore[arg-type]

    @override
    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Without what may be over in a moment."""
        return super().make_tasks_table([task for task in tasks if (task.elapsed or 0) > _A_MOMENT])


class _Done(ProgressColumn):
    """How many parts are done, of how many."""

    @override
    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{int(task.completed)}/{int(task.total)}")


class _Left(ProgressColumn):
    """The time that remains; until that can be told, and where nobody can, the time since it began."""

    @override
    def render(self, task: Task) -> Text:
        if task.time_remaining is not None and task.total is not None and task.completed:
            return Text(f"{_clock(task.time_remaining)} left")
        return Text(f"{_clock(task.elapsed or 0)} so far")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
