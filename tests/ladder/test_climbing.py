"""The ladder: a speed only where the verdict allows it, rung after rung, and nothing lost where it is interrupted."""

import json
import random
import sys
import sysconfig
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from parity import Case, Config, Hyper, Verdict
from parity.cli import main
from parity.cli.ladder_table import TABLE_COLUMNS, markdown, rendered
from parity.cli.terminal import console
from parity.ladder import Rung, RungResult, climbing, missing, rungs, this_machine
from parity.ladder.comparison import compared
from parity.subjects.timing import Timing
from reference.microgpt import init_params, init_state

climb = partial(climbing.climb, round_seconds=0.001)

RIGHT = Rung("numpy", "tests.examples.numpy_port:make")
NARROW = Rung(
    "narrow", "tests.examples.numpy_port:make", dtype="float32", below="numpy", title="Float32: half the bits."
)
SCALAR = Rung("scalar", "parity.scalar:make")
GPU = Rung("gpu", "tests.examples.numpy_port:make", cuda=True)

WRONG = '''"""Wrong: the loss is a little off."""
from tests.examples.numpy_port import NumpyPort
class Wrong(NumpyPort):
    def train_step(self, batch):
        step = super().train_step(batch)
        step.loss += 1e-6
        return step
class WrongInLargeBatches(NumpyPort):
    def train_step(self, batch):
        step = super().train_step(batch)
        if len(batch) > 3:
            step.grads["wte"][0, 0] += 1e-6
        return step
def make(config, hyper):
    return Wrong(config, hyper)
def in_large_batches(config, hyper):
    return WrongInLargeBatches(config, hyper)
class NotANumber(NumpyPort):
    def train_step(self, batch):
        step = super().train_step(batch)
        step.loss *= float("nan")
        return step
def not_a_number(config, hyper):
    return NotANumber(config, hyper)
def broken(config, hyper):
    raise OSError("no such thing")
'''


@pytest.fixture(scope="module")
def case() -> Case:
    """The reference, which is timed as well, takes 126 steps of it."""
    config = Config(n_embd=4, n_head=2, block_size=2, vocab_size=5, init_std=0.3)
    documents = [[4, *(i % 4 for i in range(number, number + 1 + number % 5)), 4] for number in range(30)]
    return Case(config, Hyper(), init_state(init_params(config, random.Random(1))), documents, steps=2)


@pytest.fixture
def wrong(tmp_path, monkeypatch) -> Rung:
    (tmp_path / "wrong_rung.py").write_text(WRONG, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return Rung("wrong", "wrong_rung:make")


def test_right_rungs_are_timed(case):
    first, second = climb([RIGHT, NARROW], case, sizes=(1, 8), threads=1)
    assert first.verdict is second.verdict is Verdict.PARITY
    assert (first.dtype, second.dtype) == ("float64", "float32")
    for result in (first, second):
        assert 0 < result.timing.low <= result.timing.step <= result.timing.high
        assert result.timing.reference > 0
        assert result.timing.batch_speed_up == result.timing.reference_batch / result.timing.batches[result.timing.best]
        assert result.timing.batches.keys() == {1, 8}
        assert 0 < result.largest_z < 10
        assert 0 < result.power < 1
        checked = [(found.case.batch_size, found.case.steps) for found in result.results]
        assert checked == [(1, 2), (3, 2), *([(8, 1)] if result.timing.best == 8 else [])]


def test_wrong_rung_shows_no_speed(case, wrong):
    (result,) = climb([wrong], case, sizes=(1,))
    assert result.verdict is Verdict.DIVERGED
    assert result.timing is None
    row = markdown(compared([result.to_dict()], [wrong])).splitlines()[-1]
    assert row.startswith("| **Wrong**: the loss is a little off. | DIVERGED float64 | ")
    assert row.endswith(" | -" * 8 + " |")
    assert result.reason.startswith("step 0: loss: ")


def test_what_is_timed_in_large_batches_is_checked_in_them(case, wrong, monkeypatch):
    monkeypatch.setattr(climbing, "_LARGEST_CHECKED", 16)
    large = replace(wrong, factory="wrong_rung:in_large_batches")
    right, result, static = climb([RIGHT, large, replace(RIGHT, static=True)], case, sizes=(8, 32))
    assert right.verdict is Verdict.PARITY
    assert right.timing.batches.keys() == {8, 32}
    assert static.timing.batches.keys() == {8}
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("step 0: grad wte[0,0]: ")
    assert result.timing is None


def test_rung_that_answers_with_nan_is_refused_and_can_be_said_in_json(case, wrong):
    (result,) = climb([replace(wrong, factory="wrong_rung:not_a_number")], case, sizes=(1,))
    assert result.verdict is Verdict.DIVERGED
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["largest_z"] == "inf"


def test_broken_rung_does_not_end_the_ladder(case, wrong):
    broken = replace(wrong, factory="wrong_rung:broken")
    first, second = climb([broken, RIGHT], case, sizes=(1,))
    assert first.verdict is Verdict.ERROR
    assert "OSError: no such thing" in first.reason
    assert second.timing is not None


def test_rung_without_its_device_is_skipped_with_a_word(case, monkeypatch):
    monkeypatch.setattr(this_machine, "_has_cuda", lambda: False)
    (result,) = climb([GPU], case)
    assert result.skipped
    assert result.to_dict()["verdict"] == "skipped"
    assert result.reason == "There is no CUDA device here."
    assert "| skipped |" in markdown(compared([result.to_dict()], [GPU]))


def test_compiled_rung_without_a_compiler_is_skipped_with_a_word(case, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    (result,) = climb([replace(RIGHT, compiled=True)], case)
    assert result.skipped
    assert result.reason.startswith("There is no C++ compiler here; torch.compile looks for no-such-compiler, ")
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "no such folder")
    assert missing(replace(RIGHT, compiled=True)).startswith("Python.h is not here, which torch.compile needs; ")


def test_the_scalar_graph_itself_is_a_rung(case):
    (result,) = climb([SCALAR], case, sizes=(1,))
    assert result.verdict is Verdict.IDENTICAL
    assert result.timing.speed_up > 1


@pytest.fixture
def short_ladder(monkeypatch, case, wrong):
    monkeypatch.setattr(rungs, "RUNGS", (RIGHT, NARROW, wrong))
    monkeypatch.setattr(climbing, "BATCH_SIZES", (1,))
    monkeypatch.setattr(climbing, "climb", climb)
    monkeypatch.setattr(Case, "from_names", lambda *arguments, **options: case)


def test_command_prints_the_table_and_writes_what_it_prints(short_ladder, tmp_path, capsys):
    files = [str(tmp_path / "ladder.json"), str(tmp_path / "ladder.md")]
    assert main(["ladder", "--steps", "2", "--json", files[0], "--markdown", files[1]]) == 1
    printed = capsys.readouterr().out
    assert "wrong: step 0: loss" in printed
    data = json.loads(Path(files[0]).read_text(encoding="utf-8"))
    assert [rung["verdict"] for rung in data["rungs"]] == ["PARITY", "PARITY", "DIVERGED"]
    assert data["rungs"][1]["changed"] == "half the bits."
    assert [rung["rung_below"] for rung in data["rungs"]] == [None, "numpy", None]
    assert data["machine"]["cores"] >= 1
    assert len(Path(files[1]).read_text(encoding="utf-8").splitlines()) == 5
    assert main(["ladder", "--rungs", "numpy", "--steps", "2", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rungs"][0]["rung"] == "numpy"


def test_interrupted_ladder_keeps_the_rungs_that_it_has(short_ladder, monkeypatch, tmp_path, capsys, case):
    def interrupted(rungs, case, **options):
        yield RungResult(RIGHT, Verdict.PARITY, [], Timing(0.001, 0.001, 0.001, 0.04, 0.04, 1, {1: 0.001}), "kept")
        raise KeyboardInterrupt

    monkeypatch.setattr(climbing, "climb", interrupted)
    file = tmp_path / "ladder.json"
    assert main(["ladder", "--json", str(file)]) == 130
    assert "numpy" in capsys.readouterr().out
    assert [rung["rung"] for rung in json.loads(file.read_text(encoding="utf-8"))["rungs"]] == ["numpy"]


def test_table_fits_a_log(case):
    timing = Timing(0.001234, 0.001, 0.002, 0.04, 0.039, 1, {1: 0.001, 16384: 3.9e-6}, 2, 1234 << 20, best=16384)
    below = RungResult(RIGHT, Verdict.PARITY, [], Timing(0.01, 0.01, 0.01, 0.04, 0.039, 1, {1: 0.01}), "fine")
    result = RungResult(replace(NARROW, name="fused_attention"), Verdict.PARITY, [], timing, "fine")
    found = compared([below.to_dict(), result.to_dict()], [below.rung, result.rung])
    terminal = console()
    with terminal.capture() as capture:
        terminal.print(rendered(found))
    row = next(line for line in capture.get().splitlines() if line.startswith(" fused_attention"))
    figures = "fused_attention PARITY float32 - - 1.23 8.10 32 3.9 16,384 2564.10 10,000 1234"
    assert row.split() == figures.split()
    assert len(TABLE_COLUMNS) == 12


def test_json_that_cannot_be_written_is_said_before_anything_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(climbing, "climb", None)
    assert main(["ladder", "--json", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_unknown_rung_is_bad_usage(capsys):
    assert main(["ladder", "--rungs", "nonesuch"]) == 2
    assert capsys.readouterr().err.startswith("There is no rung nonesuch; there are twin, ")
