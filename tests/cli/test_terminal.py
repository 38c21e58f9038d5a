"""What is printed on terminals of any width and in pipes: nothing is cut, the verdict comes first."""

import io
import json
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from parity import Case, Verdict, check
from parity.catalogue.mutants import ALL, MUTANTS
from parity.cli import main
from parity.cli.check_report import check_report
from parity.cli.check_tables import how_many, undecided
from parity.cli.command_line import _COMMANDS
from parity.cli.gate_report import gate_report
from parity.cli.help_pages import TOPICS
from parity.cli.ladder_table import rendered
from parity.cli.mutants_table import catalogue_table, matrix_report
from parity.cli.terminal import Rows, Trimmed, console, show
from parity.cli.verification_table import verification_table
from parity.gate.result import GateResult
from parity.gate.revisions import Changed
from parity.gate.speed import Speed
from parity.judging.exact_arithmetic import EXACT
from parity.judging.excluded import Exclusion, Weighed
from torch_twin.microgpt import Twin, make

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TINY = ["--steps", "1", "--n-embd", "4", "--n-head", "2", "--block-size", "3"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*\b3[0-7]m")


class Terminal(io.StringIO):
    """Somebody watches it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Runs a command on a terminal of so many columns; what it printed."""

    def printed(*argv: str, width: int = 60, height: int = 1000) -> str:
        shown = Terminal()
        with monkeypatch.context() as patch:
            for name, value in {"COLUMNS": width, "LINES": height, "TERM": "xterm-256color"}.items():
                patch.setenv(name, str(value))
            patch.setattr(sys, "stdout", shown)
            with suppress(SystemExit):  # as --help ends
                main([*argv])
        return shown.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return printed


def fits(text: str, width: int = 60) -> bool:
    lines = ESCAPE.sub("", text).splitlines()
    return max(map(len, lines)) <= width and "…" not in text


def at(width: int, renderable) -> str:
    shown = Console(file=io.StringIO(), width=width, highlight=False)
    shown.print(Trimmed(renderable))
    return shown.file.getvalue()


@cache
def short() -> Case:
    return Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 3})


@cache
def passing():
    return check(Twin, short(), probes=False)


@cache
def failing():
    return check(MUTANTS["score_gradient_not_scaled"].make, short(), probes=False)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--sites", "--verbose", "--only-case"],
        ["--dtype", "bfloat16", "--verbose", "--only-case"],
        ["--truth", "--only-case"],
    ],
    ids=" ".join,
)
def test_check_fits_sixty_columns(terminal, options):
    text = terminal("check", *TINY, *options)
    assert fits(text)
    assert ESCAPE.sub("", text).startswith("PARITY: ")
    assert COLOUR.search(text)


def test_failure_fits_sixty_columns():
    for verbose in (False, True):
        text = at(60, check_report(failing(), "embedded names", verbose))
        assert fits(text)
        assert " 0, layer0.attn_wk[0,0] " in text  # neither broken nor cut


@pytest.mark.parametrize("name", [command.name for command in _COMMANDS])
def test_help_of_commands_fits_sixty_columns_but_for_commands_to_copy(terminal, name):
    text = terminal(*name.split(), "--help")
    assert fits("\n".join(line for line in text.splitlines() if not line.startswith("  parity ")))


@pytest.mark.parametrize(
    "argv", [["help"], ["--help"], *(["help", topic] for topic in ("verdict", "accept"))], ids=" ".join
)
def test_pages_fit_sixty_columns(terminal, argv):
    assert fits(terminal(*argv))


def stored(name: str):
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_stored_results_fit(width):
    ladder, matrix = stored("ladder.json"), stored("mutants.json")
    for table in (rendered(ladder["rungs"]), matrix_report(matrix), catalogue_table(ALL)):
        assert fits(at(width, table), width)
    names = [rung["rung"] for rung in ladder["rungs"]]
    assert all(f" {name} " in at(width, rendered(ladder["rungs"])) for name in names)


def gated(verdict: Verdict) -> GateResult:
    result = failing() if verdict is Verdict.DIVERGED else passing()
    rows = [
        Changed(quantity, row.compared, row.compared, row.outside, 9.2e18, row.largest_z)
        for quantity, row in result.modes[0].quantities.items()
    ]
    speed = Speed(1.09, 0.9, 1.1, 30, 0.000865, 0.000756, (0.99, 1.28))
    reason = result.reason
    return GateResult(
        "port.py:make", "0123456", "HEAD (0123456)", verdict, reason, result, passing(), rows, None, speed
    )


def verified() -> SimpleNamespace:
    cases = [
        SimpleNamespace(
            vector=SimpleNamespace(name=name, case=short(), dtype="float64"),
            unsupported=False,
            verdict=result.verdict,
            largest_z=result.largest_z,
            reason=result.reason,
            result=result,
        )
        for name, result in (("thin-heads", passing()), ("long", failing()))
    ]
    return SimpleNamespace(
        folder="conformance",
        results="RESULTS.json",
        cases=cases,
        verdict=Verdict.DIVERGED,
        reason="1 of 2 cases: long.",
    )


@pytest.mark.parametrize(
    ("shown", "begins"),
    [
        (lambda: gate_report(gated(Verdict.DIVERGED)), "DIVERGED: "),
        (lambda: gate_report(gated(Verdict.PARITY)), "PARITY: "),
        (lambda: verification_table(verified()), "DIVERGED: 1 of 2 cases: long.\n"),
        (lambda: rendered(stored("ladder.json")["rungs"]), "PARITY: All that ran compute the same function"),
        (lambda: matrix_report(stored("mutants.json")), "Caught: 219 of 219 known mistakes in float64"),
    ],
    ids=["gate fails", "gate passes", "verify", "ladder", "mutants"],
)
def test_verdict_comes_first_in_its_colour(shown, begins):
    assert at(1000, shown()).startswith(begins)
    assert fits(at(60, shown()))
    coloured = Console(file=io.StringIO(), width=60, force_terminal=True, color_system="standard", highlight=False)
    coloured.print(shown())
    assert COLOUR.match(coloured.file.getvalue())


def test_verdict_is_repeated_below_what_is_longer_than_the_terminal_is_high(terminal):
    text = ESCAPE.sub("", terminal("check", *TINY, "--only-case", "--mode", "lock-step", height=5))
    sentence = text.partition("\n\n")[0]
    assert text.endswith(f"\n\n{sentence}\n")
    assert terminal("check", *TINY, "--only-case", "--mode", "lock-step").count("PARITY") == 1


def test_pipe_gets_the_same_bytes_whatever_the_terminal(monkeypatch, capsys):
    texts = set()
    for width in ("60", "200"):
        monkeypatch.setenv("COLUMNS", width)
        assert main(["check", *TINY, "--only-case", "--dtype", "bfloat16", "--verbose"]) == 0
        out, error = capsys.readouterr()
        assert "\x1b" not in out + error
        assert not re.search(r" $", out, re.MULTILINE)
        texts.add(out)
    assert len(texts) == 1


def test_pipe_gets_a_line_for_each_row_and_sentence():
    lines = at(console().width, check_report(failing(), "embedded names")).splitlines()
    assert lines[0] == f"DIVERGED: {failing().reason}"
    (listed,) = [line for line in at(console().width, catalogue_table(ALL)).splitlines() if line.startswith(" gelu ")]
    assert MUTANTS["gelu"].mistake in listed
    assert all(source in listed for source in MUTANTS["gelu"].sources)


def test_colours_are_left_out_where_nobody_wants_them(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = terminal("check", *TINY, "--only-case")
    assert "PARITY" in text
    assert not COLOUR.search(text)


def test_wide_table_goes_on_below_and_columns_that_belong_together_stay_so():
    columns = ["name", "first number", "second", "third", "fourth"]
    rows = [["layer0.attn_wq[15,12]", "1.234567", "2.345678", "3.456789", "4.567891"]]
    table = Rows(columns, ["name"], rows, groups=(2, 2))
    assert len(at(200, table).split("\n\n")) == 1
    first, second = at(60, table).split("\n\n")
    assert first.splitlines()[0].split() == ["name", "first", "number", "second"]
    assert second.splitlines()[0].split() == ["name", "third", "fourth"]
    assert second.splitlines()[-1].split() == ["layer0.attn_wq[15,12]", "3.456789", "4.567891"]


def test_stacked_table_has_a_paragraph_for_each_row():
    said = "A sentence that is longer than what is left of the line beside all other columns."
    table = Rows(
        ["mistake", "stage", "wrong", "z"],
        ["mistake", "stage", "wrong"],
        [["a_long_name", "Adam", said, "1"]],
        stacked=True,
    )
    assert at(40, table).splitlines()[:2] == ["a_long_name", "  stage: Adam; wrong: A sentence that is"]
    assert said in at(200, table)


def test_text_in_brackets_is_no_markup(capsys):
    show(Rows(["a"], ["a"], [["[bold]x[/bold]"], [Text("[/y]")]]))
    assert "[bold]x[/bold]" in capsys.readouterr().out


def test_error_is_wrapped_on_a_terminal_and_one_line_elsewhere(monkeypatch, capsys):
    assert main(["help", "nonesuch"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["help", "nonesuch"]) == 2
    assert fits(sys.stderr.getvalue())
    assert sys.stderr.getvalue().split() == sentence.split()


def test_exit_statuses_are_those_of_the_command(capsys):
    said = {}
    for command in _COMMANDS:
        with pytest.raises(SystemExit):
            main([*command.name.split(), "--help"])
        said[command.name] = " ".join(capsys.readouterr().out.partition("exit status:")[2].split())
    assert "3 INCONCLUSIVE" in said["check"]
    assert "or the change is accepted" in said["gate"]
    assert "1 one is missed, or refused though equivalent" in said["mutants"]
    assert "INCONCLUSIVE" not in said["new-subject"] + said["vectors"] + said["help"]
    assert all(topic in ending for topic in TOPICS for ending in said.values())


def test_exact_run_says_how_few_steps_it_takes_and_probes_why_they_are_fewer():
    case = Case.from_names(steps=3, config={"n_embd": 4, "n_head": 2, "block_size": 3})
    result = check(make, case, dtype="bfloat16")
    lines = at(1000, check_report(result, "embedded names"))
    assert f"lock-step, free-running and {EXACT} of the first 2 steps" in lines
    assert how_many(result, 8) == "8 small cases besides (1 of 9 out of reach in bfloat16)"
    assert how_many(passing(), 9) == "9 small cases besides"


def test_what_is_undecided_has_an_alpha_or_says_why_not():
    weighed = {"one": Weighed(0.1, 0.2, 0.0, 8.0, 3)}
    first, second = undecided(Exclusion(2, {"one": "One thing.", "two": "Another."}, weighed))
    assert first.startswith("One thing. (alpha 0.1 ± 0.2: ")
    assert second == "Another. (no alpha: these answers show nothing of it, made or not)"
