"""The README's commands run, and print what it says they print."""

import inspect
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import parity.modules
import parity.plugin
from parity import check
from parity.case import Case
from parity.cli import main
from parity.cli.check_report import check_report
from parity.cli.ladder_table import markdown
from parity.cli.terminal import console
from parity.ladder import RUNGS
from parity.ladder.comparison import compared
from tests.faults import FAULTS, planted

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def shape(text: str) -> str:
    """A text without its numbers and layout: rounding differs from processor to processor."""
    text = re.sub(r"(layer\d\.\w+|lm_head|wte|wpe|document \d+|loss)(\[[\d,]+\])?, step \d+", "PLACE", text)
    return " ".join(re.sub(r"-?\d[\d.,]*(e[-+]\d+)?", "N", text).replace("─", "").split())


def words(text: str) -> str:
    """A text's shape, whatever the revision's name."""
    text = text.replace("no difference can be told", "").replace(";", "")  # which depends on the machine's mood
    return re.sub(r"\b[0-9a-f]{7}\b", "REVISION", shape(re.sub(r"\b[0-9a-f]{7}\b", "REVISION", text)))


def block_that_starts_with(beginning: str) -> str:
    found = [block for _, block in BLOCKS if block.startswith(beginning)]
    assert len(found) == 1, f"{len(found)} blocks of the README start with {beginning!r}"
    return found[0]


def printed_by(result, source: str) -> str:
    terminal = console()
    terminal.file = io.StringIO()
    terminal.print(check_report(result, source))
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
    parts = [shape(part) for part in block_that_starts_with("PARITY: Rounding explains").split("…")]
    assert printed.startswith(parts[0])
    assert printed.endswith(parts[-1])


def test_a_planted_fault_prints_what_the_readme_shows():
    fault = next(fault for fault in FAULTS if fault.name == "no gradient flows through the keys")
    with planted(*fault.edits) as make:
        result = check(make, Case.from_names(steps=3), modes=("lock-step",))
    shown = block_that_starts_with("step 0, in the order of computation")
    assert shape(shown) in shape(printed_by(result, "embedded names"))


def test_example_subject_has_the_shape_of_the_protocol():
    source = next(block for language, block in BLOCKS if language == "python" and "class MyPort" in block)
    namespace: dict = {}
    exec(source, namespace)
    assert {"load", "train_step"} <= vars(namespace["MyPort"]).keys()


def test_module_of_torch_is_adapted_as_the_readme_shows():
    block = next(block for language, block in BLOCKS if "ModuleSubject" in block)
    map_and_factory = block.partition("\n\n")[2].strip()
    assert map_and_factory in inspect.getdoc(parity.modules).replace("\n    ", "\n")


def test_options_that_the_readme_names_exist(capsys):
    text = "--pyargs --junitxml --benchmark-only --ranges --fast " + " ".join(parity.plugin.PYTEST_OPTIONS)
    for command in ("check", "gate", "ladder", "new-subject"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text += capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][\w-]+", README)):
        assert option in text, option


def test_parts_are_what_the_results_print(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(README.replace("| float64 | ", "| float63 | "), encoding="utf-8")
    fill = [sys.executable, "-m", "benchmarks.readme", str(file)]
    subprocess.run(fill, cwd=ROOT, check=True)
    assert file.read_text(encoding="utf-8") == README
    file.write_text(README.replace("<!-- calibration -->", ""), encoding="utf-8")
    refused = subprocess.run(fill, cwd=ROOT, capture_output=True, text=True)
    assert "no part <!-- calibration -->" in refused.stderr
    assert refused.returncode == 1


def test_ladder_and_claims_are_those_that_were_measured():
    results = ROOT / "benchmarks" / "results"
    assert (results / "claims.md").read_text(encoding="utf-8").splitlines()[-1] in " ".join(README.split())
    rungs = json.loads((results / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    assert [rung["rung"] for rung in rungs] == [rung.name for rung in RUNGS]
    assert compared(rungs, RUNGS) == rungs
    assert markdown(rungs) == (results / "ladder.md").read_text(encoding="utf-8")
    assert f"Of {len(rungs)} rungs {sum(rung['timing'] is not None for rung in rungs)} ran" in " ".join(README.split())


def test_ladder_shows_the_rungs_that_train_faster_than_all_above():
    rungs = json.loads((ROOT / "benchmarks" / "results" / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    part = README.partition("<!-- ladder -->")[2].partition("<!-- end -->")[0]
    shown = re.findall(r"^\| \*\*(.+?)\*\*: ", part, flags=re.MULTILINE)
    trained = [rung for rung in rungs if rung["timing"] and not rung["timing"]["forward_only"]]
    steps = [rung["timing"]["step"] for rung in trained]
    documents = [min(rung["timing"]["batches"].values()) for rung in trained]
    assert shown == [
        rung["technique"]
        for number, rung in enumerate(trained)
        if any(times[number] == min(times[: number + 1]) for times in (steps, documents))
    ]
    assert 3 < len(shown) < len(trained)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_gate_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "tests" / "examples" / "numpy_port.py").read_text(encoding="utf-8")
    Path("model.py").write_text(source, encoding="utf-8")
    Path("my_port.py").write_text("from model import make\n", encoding="utf-8")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-qb", "main"], ["add", "."], [*identity, "commit", "-qm", "Start"]):
        subprocess.run(["git", *arguments], check=True)
    Path("model.py").write_text(source.replace("swapaxes(1, 2) / config.head_dim**0.5\n", "swapaxes(1, 2)\n", 1))
    assert main(["gate", "my_port.py:make", "--base", "main", "--steps", "3", "--rounds", "30"]) == 1
    printed = words(capsys.readouterr().out)
    for part in block_that_starts_with("DIVERGED: the function changed.").split("…"):
        assert words(part) in printed


def test_training_that_changed_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-subject", "training.py", "--example", "training"]) == 0
    text = Path("training.py").read_text()
    Path("changed.py").write_text(text.replace("eps: float = 1e-5", "eps: float = 1.1e-5"))
    capsys.readouterr()
    few = ["--steps", "1", "--mode", "lock-step"]
    assert main(["check", "changed.py:make", "--against", "training.py:make", *few]) == 1
    printed = shape(capsys.readouterr().out)
    for part in block_that_starts_with("DIVERGED: In exact arithmetic").split("…"):
        assert shape(part) in printed


def test_training_of_the_readme_is_the_example():
    example = (ROOT / "tests" / "examples" / "training.py").read_text(encoding="utf-8")
    shown = block_that_starts_with("from parity.training import Training")
    for line in shown.splitlines():
        assert "return" in line or line in example
