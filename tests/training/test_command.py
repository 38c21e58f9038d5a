"""`parity check` of a training, as it is typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity.cli import main
from parity.subjects.training_factories import training_factory

ROOT = Path(__file__).parents[2]
FILE = str(Path(__file__).with_name("tiny.py"))
FEW = ("--steps", "1", "--replicas", "4", "--mode", "lock-step")


def test_verdict_stands_first_and_what_was_compared_below(capsys):
    assert main(["check", f"{FILE}:make", *FEW]) == 0
    out = capsys.readouterr().out
    assert out.startswith("PARITY: Rounding explains every difference: largest z ")
    assert re.search(r"model +MLP, 83 parameters, AdamW", out)
    assert re.search(r"grad +83 ", out)
    assert "not exercised:" in out


def test_failure_names_where_it_begins(capsys, tmp_path):
    files = {f"--{kind}": tmp_path / f"result.{kind}" for kind in ("json", "markdown", "html")}
    options = [text for flag, file in files.items() for text in (flag, str(file))]
    assert main(["check", f"{FILE}:other_eps", "--against", f"{FILE}:autocast", *FEW, *options]) == 1
    out = capsys.readouterr().out
    assert out.startswith("DIVERGED: In exact arithmetic it is another function than ")
    assert re.search(r"begins at +site norm \(LayerNorm\)", out)
    assert "begins at: site norm" in files["--markdown"].read_text()
    assert json.loads(files["--json"].read_text())["verdict"] == "DIVERGED"
    assert re.search(r'class="chip origin".*>norm \(LayerNorm\)', files["--html"].read_text())


def test_names_from_a_file(tmp_path, capsys):
    from tests.training.tiny import RENAMED

    file = tmp_path / "names.json"
    file.write_text(json.dumps(RENAMED))
    command = ["check", f"{FILE}:renamed", "--against", f"{FILE}:make", *FEW]
    assert main([*command, "--names-map", str(file)]) == 0
    capsys.readouterr()
    assert main(command) == 2
    assert "has no parameter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"{FILE}:make", "--n-layer", "2"], "--n-layer is for a subject"),
        ([f"{FILE}:make", "--truth"], "--truth is for a subject"),
        ([f"{FILE}:make", "--verbose"], "--verbose is for a subject"),
        ([f"{FILE}:make", "--memory-limit", "1"], "--memory-limit"),
        ([f"{FILE}:make", "--steps", "4"], "The batches last for 3 steps, and --steps asks for 4."),
        ([f"{FILE}:autocast", "--dtype", "float64"], "The factory takes no dtype"),
        ([f"{FILE}:make", "--names-map", "names.json"], "--names-map is for --against"),
        ([f"{FILE}:make", "--against", f"{FILE}:nothing"], "has no 'nothing'"),
        ([f"{FILE}:make", "--against", "torch_twin.microgpt:make"], "makes no parity.training.Training"),
        (["torch_twin.microgpt:make", "--against", f"{FILE}:make"], "are for trainings"),
        ([f"{FILE}:make", "--replicas", "0"], "a whole number of at least 1"),
    ],
)
def test_option_that_does_not_fit_is_refused_in_a_sentence(arguments, said, capsys):
    try:
        status = main(["check", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_subjects_are_no_trainings():
    assert training_factory("torch_twin.microgpt:make") is None
    assert training_factory(f"{FILE}:make") is not None


def test_nobody_imports_torch_to_see_that_a_subject_is_no_training():
    program = (
        "import sys; from parity.subjects.training_factories import training_factory; "
        "assert training_factory('tests/examples/numpy_port.py:make') is None; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
