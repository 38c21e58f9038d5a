"""Work that takes long shows how much of it is done, and the time that is left, on a terminal and nowhere else."""

import io
import sys

import numba
import pytest
from rich.console import Console

from parity import Case, check
from parity.catalogue.mutants import MUTANTS
from parity.catalogue.naming import name_mistakes
from parity.cli import bars, main
from parity.cli.bars import Bars, progress
from parity.machine_code import compile_timer
from parity.progress import each, watched, work
from tests.examples.numpy_port import NumpyPort
from torch_twin.microgpt import make

TINY = {"n_embd": 4, "n_head": 2, "block_size": 3}


class Notes:
    """Who watches, and writes it down: what began, of how many parts, how many were done, and what has not ended."""

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.open: list[str] = []
        self._names: list[str] = []

    def begin(self, what: str, parts: int) -> int:
        self.parts[what], self.done[what] = parts, 0
        self.open.append(what)
        self._names.append(what)
        return len(self._names) - 1

    def part_is_done(self, number: int) -> None:
        self.done[self._names[number]] += 1

    def end(self, number: int) -> None:
        self.open.remove(self._names[number])


@pytest.fixture
def notes():
    with watched(found := Notes()):
        yield found
    assert found.open == []


class Terminal(io.StringIO):
    """Somebody watches it."""

    def isatty(self) -> bool:
        return True


def test_parts_are_told_one_by_one_and_work_that_is_given_up_ends(notes):
    assert list(each("parts", range(3))) == [0, 1, 2]
    assert (notes.parts, notes.done) == ({"parts": 3}, {"parts": 3})
    next(each("others", range(2)))
    assert notes.done["others"] == 0


def test_nobody_need_watch():
    with watched(None), work("anything", 2) as part_is_done:
        part_is_done()
    assert list(each("anything", "ab")) == ["a", "b"]


def test_check_tells_of_steps_probes_exact_arithmetic_and_mistakes(notes):
    case = Case.from_names(steps=2, config=TINY)
    assert check(make, case, dtype="bfloat16", probes=False).verdict.passes
    assert notes.parts["exact arithmetic: steps"] == 2
    assert check(NumpyPort, case, probes=True).verdict.passes
    assert notes.parts["probes"] == notes.done["probes"] == 9
    result = check(MUTANTS["score_gradient_not_scaled"].make, case, probes=False, modes="lock-step")
    assert notes.done["lock-step: steps"] == notes.parts["lock-step: steps"] == 2
    name_mistakes(result)
    assert notes.done["known mistakes"] > 10


def test_compiling_is_told_and_timed(notes):
    seconds: list[float] = []
    with compile_timer(seconds):
        assert numba.njit(lambda x: x + 1)(1) == 2
        assert notes.open == ["compiling, this once"]
    assert len(seconds) == notes.done["compiling, this once"] == 1
    assert seconds[0] > 0


def test_bars_say_what_is_done_and_what_is_left():
    clock = [0.0]
    terminal = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    shown = Bars(terminal, get_time=lambda: clock[0], auto_refresh=False)
    shown.phase("head against the reference")
    number = shown.begin("lock-step: steps", 4)
    clock[0] = 0.1
    assert shown.make_tasks_table(shown.tasks).row_count == 0  # over in a moment, perhaps
    for clock[0] in (2.0, 4.0):
        shown.part_is_done(number)
    with terminal.capture() as captured:
        terminal.print(shown.make_tasks_table(shown.tasks))
    phase, steps = captured.get().splitlines()
    assert "head against the reference" in phase
    assert phase.rstrip().endswith("0:00:04 so far")
    assert "2/4" in steps
    assert steps.rstrip().endswith("0:00:04 left")
    shown.begin("something that takes more words to say than there is room for", 1_000)
    clock[0] = 6.0
    with terminal.capture() as captured:
        terminal.print(shown.make_tasks_table(shown.tasks))
    assert "…" not in captured.get()
    assert " 0/1000 0:00:02 so far" in captured.get()
    shown.phase("base against the reference")
    for number in shown.task_ids[1:]:
        shown.end(number)
    assert shown.make_tasks_table(shown.tasks).row_count == 0


def test_terminal_sees_work_and_keeps_nothing_of_it(monkeypatch):
    monkeypatch.setattr(bars, "_A_MOMENT", -1.0)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress() as phase:
        phase("a large part")
        for _ in each("small ones", range(2)):
            pass
    text = sys.stderr.getvalue()
    assert "a large part" in text
    assert "small ones" in text
    assert text.endswith("\x1b[2K")  # the last thing that is done is to take the lines away


def test_pipe_sees_nothing(capsys):
    with progress() as phase:
        phase("a large part")
        assert list(each("small ones", range(2))) == [0, 1]
    assert capsys.readouterr() == ("", "")
    assert main(["check", "--steps", "1", "--n-embd", "4", "--n-head", "2", "--only-case"]) == 0
    assert "lock-step: steps" not in capsys.readouterr().err


def test_long_compilation_is_said_in_the_end(monkeypatch, capsys):
    monkeypatch.setattr(bars, "_WORTH_TELLING", 0.0)
    with progress():
        numba.njit(lambda x: x + 2)(1)
    assert "s; the next run finds it on disk.\n" in capsys.readouterr().err
