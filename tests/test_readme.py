"""The README's commands run, and print what it says they print."""

import io
import re
from pathlib import Path

import pytest

from parity import check
from parity.case import Case
from parity.cli import main
from parity.render import console, rendered
from tests.faults import FAULTS, planted

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def shape(text: str) -> str:
    """A text without its numbers and layout: rounding differs from processor to processor."""
    text = re.sub(r"(layer\d\.\w+|lm_head|wte|wpe|document \d+|loss)(\[[\d,]+\])?, step \d+", "PLACE", text)
    return " ".join(re.sub(r"-?\d[\d.,]*(e[-+]\d+)?", "N", text).replace("─", "").split())


def block_that_starts_with(beginning: str) -> str:
    found = [block for _, block in BLOCKS if block.startswith(beginning)]
    assert len(found) == 1, f"{len(found)} blocks of the README start with {beginning!r}"
    return found[0]


def printed_by(result, source: str) -> str:
    terminal = console()
    terminal.file = io.StringIO()
    terminal.print(rendered(result, source))
    return terminal.file.getvalue()


def test_readme_is_a_front_page():
    assert len(README.splitlines()) <= 250


@pytest.mark.parametrize("command", ["parity check", "pytest"])
def test_both_commands_are_single_lines(command):
    line = next(block for _, block in BLOCKS if block.rstrip().endswith(f"&& .venv/bin/{command}"))
    assert line.count("\n") == 1
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_check_prints_what_the_readme_shows(capsys):
    assert main(["check"]) == 0
    printed = shape(capsys.readouterr().out)
    parts = [shape(part) for part in block_that_starts_with("config:  n_layer 1, n_embd 16").split("…")]
    assert printed.startswith(parts[0])
    assert printed.endswith(parts[-1])


def test_a_planted_fault_prints_what_the_readme_shows():
    fault = next(fault for fault in FAULTS if fault.name == "attention scores are not scaled")
    with planted(*fault.edits) as make:
        result = check(make, Case.from_names(steps=3), modes=("lock-step",))
    shown = block_that_starts_with("lock-step, 3 steps: DIVERGED")
    assert shape(shown.split("…")[0]) in shape(printed_by(result, "embedded names"))


def test_truth_prints_what_the_readme_shows():
    result = check(case=Case.from_names(steps=3), truth=True)
    assert shape(block_that_starts_with("largest z (limit")) in shape(printed_by(result, "embedded names"))


def test_example_subject_has_the_shape_of_the_protocol():
    source = next(block for language, block in BLOCKS if language == "python" and "class MyPort" in block)
    namespace: dict = {}
    exec(source, namespace)
    assert {"load", "train_step"} <= vars(namespace["MyPort"]).keys()


def test_options_that_the_readme_names_exist(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    text = capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][\w-]+", README)) - {"--benchmark-only", "--ranges"}:
        assert option in text, option
