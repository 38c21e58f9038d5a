"""The command line as a person meets it: exit statuses, one sentence for what is wrong, and pure JSON."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parity import Case, Verdict
from parity.catalogue.mutants import MUTANTS
from parity.cli import main
from parity.subjects.process import Limits
from parity.testing import assert_parity
from parity.vectors.cases import PLANS
from tests.warming import warm_up

ROOT = Path(__file__).parents[2]
SMALL = ["--steps", "2", "--n-embd", "4", "--n-head", "2", "--block-size", "3", "--only-case"]
"""Without probes, which have tests of their own."""

PORTS = """
import math
from torch_twin.microgpt import Twin, make

class Wrong(Twin):
    def train_step(self, batch):
        answer = super().train_step(batch)
        answer.loss *= 1.5
        return answer

class Empty(Twin):
    def train_step(self, batch):
        answer = super().train_step(batch)
        return type(answer)()

class Lossy(Twin):
    def train_step(self, batch):
        answer = super().train_step(batch)
        answer.loss = math.nan
        return answer

class Partial(Twin):
    def train_step(self, batch):
        answer = super().train_step(batch)
        return type(answer)(logits=answer.logits, grads=answer.grads)

def wrong(config, hyper): return Wrong(config, hyper)
def empty(config, hyper): return Empty(config, hyper)
def nan(config, hyper): return Lossy(config, hyper)
def partial(config, hyper): return Partial(config, hyper)
def raising(config, hyper): raise RuntimeError("no such device")
def without_dtype(config, hyper): return make(config, hyper)
number = 3
"""


@pytest.fixture(scope="module", autouse=True)
def _oracle_is_compiled():
    """Standard error stays empty then."""
    warm_up()


@pytest.fixture
def ports(tmp_path, monkeypatch) -> Path:
    """A file of factories, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = tmp_path / "ports.py"
    path.write_text(PORTS)
    return path


def run(*argv: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "parity", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


def result_of(capsys, *argv: str) -> tuple[int, dict]:
    status = main([*argv, "--json", "-"])
    return status, json.loads(capsys.readouterr().out)


def assert_one_sentence(error: str, *said: str) -> None:
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert error.endswith(".\n")
    for word in said:
        assert word in error


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize(
    ("subject", "status", "verdict"),
    [
        ("torch_twin.microgpt:make", 0, Verdict.PARITY),
        ("parity.oracle.python_reference:Reference", 0, Verdict.IDENTICAL),
        ("ports.py:without_dtype", 0, Verdict.PARITY),
        ("ports.py:partial", 0, Verdict.PARITY),
        ("ports:without_dtype", 0, Verdict.PARITY),
        ("ports.py:wrong", 1, Verdict.DIVERGED),
        ("ports.py:nan", 1, Verdict.DIVERGED),
        ("ports.py:raising", 1, Verdict.ERROR),
        ("ports.py:empty", 3, Verdict.INCONCLUSIVE),
    ],
)
def test_exit_status_says_the_verdict(ports, capsys, subject, status, verdict):
    assert main(["check", subject, *SMALL, "--json", "result.json"]) == status
    out, error = capsys.readouterr()
    assert error == ""
    assert verdict.value in out
    assert json.loads(Path("result.json").read_text())["verdict"] == verdict.value


def test_default_subject_is_the_twin(capsys):
    status, result = result_of(capsys, "check", *SMALL)
    assert (status, result["subject"]) == (0, "torch_twin.microgpt:make")


def test_table_has_every_quantity_and_the_verdict(capsys):
    assert main(["check", *SMALL]) == 0
    out = capsys.readouterr().out
    for word in ("loss", "logits", "grad", "m", "v", "param", "lock-step", "free-running", "PARITY"):
        assert word in out


@pytest.mark.usefixtures("unnamed")
def test_first_divergence_is_printed(ports, capsys):
    assert main(["check", "ports.py:wrong", *SMALL]) == 1
    assert re.search(r"step 0\W+loss", capsys.readouterr().out)


def test_what_is_not_exposed_is_printed(ports, capsys):
    assert main(["check", "ports.py:partial", *SMALL]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "loss, m, v, param" in out


@pytest.mark.parametrize("argv", [["--help"], ["check", "--help"], ["replay", "--help"]])
def test_help_has_an_example(capsys, argv):
    with pytest.raises(SystemExit, match="0"):
        main(argv)
    out = capsys.readouterr().out
    assert "example" in out
    assert re.search(r"^  parity \w+", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--"], "COMMAND"),
        (["chekc"], "chekc"),
        (["check", "--stepps", "3"], "--stepps"),
        (["check", "--steps"], "--steps"),
        (["check", "--steps", "0"], "--steps"),
        (["check", "--steps", "-1"], "--steps"),
        (["check", "--steps", "x"], "--steps"),
        (["check", "--steps", "1.5"], "--steps"),
        (["check", "--steps", "²"], "--steps"),
        (["check", "--steps", "1" * 5000], "--steps"),
        (["check", "--batch-size", "0"], "--batch-size"),
        (["check", "--n-head", "0"], "--n-head"),
        (["check", "--seed", "x"], "--seed"),
        (["check", "--preset", "gpt-2"], "gpt-2"),
        (["check", "--dtype", "float7"], "float7"),
        (["check", "--mode", "lockstep"], "lockstep"),
        (["check", "a.py:make", "b.py:make"], "b.py:make"),
        (["replay"], "CASE.json"),
    ],
)
def test_bad_usage_is_one_sentence_with_status_2(capsys, argv, said):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    out, error = capsys.readouterr()
    assert out == ""
    assert_one_sentence(error, said, "--help")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--steps", "1001"], "num_steps"),
        (["--steps", "9", "--num-steps", "8"], "num_steps"),
        (["--n-head", "3"], "n_head"),
        (["--names", "missing.txt"], "missing.txt"),
        (["--names", "binary.txt"], "binary.txt"),
        (["--names", "empty.txt"], "empty.txt"),
        (["--names", "."], "."),
        (["no.such.module:make"], "no.such.module"),
        (["nosuchmodule:make"], "nosuchmodule"),
        (["no_such_file.py:make"], "no_such_file.py"),
        (["ports.py:mkae"], "mkae"),
        (["torch_twin.microgpt:mkae"], "mkae"),
        (["ports.py:number"], "number"),
        (["ports.py"], "ports.py"),
        (["make"], "make"),
        ([":make"], ":make"),
        (["ports.py:"], "ports.py:"),
        (["..ports:make"], "..ports"),
        (["ports.py:without_dtype", "--dtype", "float32"], "dtype"),
        (["ports.py:without_dtype", "--device", "cpu"], "device"),
    ],
)
def test_bad_input_is_one_sentence_with_status_2(ports, capsys, argv, said):
    Path("binary.txt").write_bytes(bytes(range(256)))
    Path("empty.txt").write_text("\n\n")
    assert main(["check", *argv]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert_one_sentence(error, said)


@pytest.mark.parametrize("text", ["import nothing_of_the_kind\n", "def make(:\n", "raise SystemExit(0)\n", "1 / 0\n"])
def test_subject_whose_file_cannot_be_imported_fails_with_the_cause(ports, capsys, text):
    Path("broken.py").write_text(text)
    status, result = result_of(capsys, "check", "broken.py:make", *SMALL)
    assert status == 1
    assert result["verdict"] == "ERROR"
    assert "broken.py" in result["reason"]


@pytest.mark.parametrize("isolated", [[], ["--isolate"]])
def test_unknown_device_is_not_blamed_on_the_subject(isolated, capsys):
    assert main(["check", *SMALL, "--device", "abacus", *isolated]) == 2
    assert capsys.readouterr().err.startswith("There is no device 'abacus' here: ")


def test_json_file_is_written_whole_beside_the_table(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert main(["check", *SMALL, "--json", str(path)]) == 0
    assert "PARITY" in capsys.readouterr().out
    assert json.loads(path.read_text())["verdict"] == "PARITY"
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("path", [".", "names.txt/result.json"])
def test_json_to_an_impossible_place_is_one_sentence_with_status_2(ports, capsys, path):
    Path("names.txt").write_text("ann\nbob\n")
    assert main(["check", *SMALL, "--json", path]) == 2
    assert_one_sentence(capsys.readouterr().err, path)


def test_same_command_gives_the_same_bytes(capsys):
    main(["check", *SMALL, "--json", "-"])
    first = capsys.readouterr().out
    main(["check", *SMALL, "--json", "-"])
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("mode", ["lock-step", "free-running"])
def test_mode_alone(capsys, mode):
    _, result = result_of(capsys, "check", *SMALL, "--mode", mode)
    assert [entry["mode"] for entry in result["modes"]] == [mode]


def test_both_modes_are_the_default(capsys):
    _, result = result_of(capsys, "check", *SMALL)
    assert [entry["mode"] for entry in result["modes"]] == ["lock-step", "free-running"]
    assert result == result_of(capsys, "check", *SMALL, "--mode", "both")[1]


def test_sites_are_compared_where_asked_for(capsys):
    _, without = result_of(capsys, "check", *SMALL)
    status, result = result_of(capsys, "check", *SMALL, "--sites")
    assert status == 0
    added = {row["quantity"] for row in result["modes"][0]["quantities"]}
    added -= {row["quantity"] for row in without["modes"][0]["quantities"]}
    assert added == {"site", "site grad"}


def test_options_make_the_case_they_name(tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ann\nbob\n\neve\n")
    options = ["--names", str(names), "--preset", "microgpt_early", "--n-layer", "2", "--num-steps", "7"]
    _, result = result_of(capsys, "check", *SMALL, *options, "--batch-size", "2", "--seed", "5")
    config = result["config"]
    assert (config["n_layer"], config["n_embd"], config["n_head"], config["block_size"]) == (2, 4, 2, 3)
    assert (config["vocab_size"], config["activation"]) == (7, "relu2")
    assert (result["hyper"]["num_steps"], result["hyper"]["lr_schedule"]) == (7, "cosine")
    assert (result["run"]["steps"], result["run"]["batch_size"]) == (2, 2)


def test_seed_changes_the_run(capsys):
    _, first = result_of(capsys, "check", *SMALL, "--seed", "1")
    _, other = result_of(capsys, "check", *SMALL, "--seed", "2")
    assert first != other


def test_float32_is_judged_as_float32(capsys):
    status, result = result_of(capsys, "check", *SMALL, "--dtype", "float32")
    assert (status, result["dtype"]) == (0, "float32")


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize("subject", ["ports.py:wrong", "torch_twin.microgpt:make"])
def test_replay_gives_the_result_of_the_check(ports, capsys, subject):
    case = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 3})
    case.save(Path("case.json"))
    checked = result_of(capsys, "check", subject, *SMALL)
    assert result_of(capsys, "replay", "case.json", subject) == checked


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize("limits", [None, Limits(seconds=60.0, memory=1 << 30)])
def test_command_that_a_failing_assertion_names_repeats_the_failure(ports, capsys, limits):
    case = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 3})
    with pytest.raises(AssertionError) as caught:
        assert_parity("ports.py:wrong", case, limits=limits)
    command = str(caught.value).rpartition("Repeat with: parity ")[2].split()
    status, result = result_of(capsys, *command)
    assert (status, result["verdict"]) == (1, "DIVERGED")
    assert " ".join(result["reason"].split()) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[[[[", b'{"format": "microgpt-parity case 1"}', None])
def test_replay_of_what_is_no_case_is_one_sentence_with_status_2(tmp_path, capsys, content):
    path = tmp_path / "case.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["replay", str(path)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert_one_sentence(error, "case.json")


def test_interruption_is_one_sentence_with_status_130(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("parity.judging.checking.check", interrupted)
    assert main(["check", *SMALL]) == 130
    assert_one_sentence(capsys.readouterr().err)


def test_module_runs_as_the_command_and_keeps_standard_output_pure(tmp_path):
    text = PORTS.replace("torch_twin.microgpt import Twin", "tests.examples.numpy_port import NumpyPort as Twin")
    (tmp_path / "ports.py").write_text(text)  # without torch, which takes seconds to import
    done = run("check", "ports.py:wrong", *SMALL, "--json", "-", cwd=tmp_path)
    assert done.returncode == 1
    # Where no test before this one has compiled what this check needs, it says so.
    assert re.fullmatch(r"(The oracle was compiled in .* s; the next run finds it on disk\.\n)?", done.stderr)
    assert json.loads(done.stdout)["verdict"] == "DIVERGED"


def test_bad_input_to_the_command_ends_without_a_traceback(tmp_path):
    done = run("check", "--names", "missing.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert_one_sentence(done.stderr, "missing.txt")


def test_reader_who_leaves_early_causes_no_traceback(tmp_path):
    check = f"check parity.oracle.python_reference:Reference {' '.join(SMALL)}"
    shell = f"{sys.executable} -m parity {check} | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_new_subject_is_a_skeleton_that_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-subject", "port.py"]) == 0
    assert capsys.readouterr().out.endswith("then run: parity check port.py:make\n")
    text = Path("port.py").read_text(encoding="utf-8")
    assert "`parity check port.py:make`" in text
    assert text.count("TODO") == 4
    assert main(["check", "port.py:make", "--steps", "1"]) == 1
    assert "NotImplementedError: train_step is still to be written (port.py, line " in capsys.readouterr().out


def test_new_subject_overwrites_nothing(tmp_path, capsys):
    file = tmp_path / "port.py"
    file.write_text("mine", encoding="utf-8")
    assert main(["new-subject", str(file)]) == 2
    assert capsys.readouterr().err == f"{file} exists already, and is left as it is.\n"
    assert file.read_text(encoding="utf-8") == "mine"
    assert main(["new-subject", str(tmp_path / "port.js")]) == 2
    assert "`parity help protocol`" in capsys.readouterr().err
    assert main(["new-subject", str(tmp_path / "nowhere" / "port.py")]) == 2
    assert "cannot be written: No such file or directory." in capsys.readouterr().err


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("git")), reason="bash or git is not installed")
def test_vectors_are_written_and_answers_to_them_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("parity.vectors.cases.PLANS", PLANS[:2])
    mistakes = ("gelu", *PLANS[1].mistakes)
    monkeypatch.setattr("parity.vectors.cases.SHOWN", {name: MUTANTS[name] for name in mistakes})
    assert main(["vectors", "conformance"]) == 0
    assert capsys.readouterr().out == ("Wrote 2 cases in float64; conformance/README.md says what to do with them.\n")
    vector = json.loads(Path("conformance/small.json").read_text(encoding="utf-8"))
    Path("right.json").write_text(json.dumps({"small": [{"loss": step["loss"]} for step in vector["expected"]]}))
    assert main(["verify", "conformance", "right.json"]) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "small IDENTICAL" in printed
    assert "INCONCLUSIVE" in printed
    (mistake,) = [entry for entry in vector["mistakes"] if entry["name"] == "gelu"]
    Path("wrong.json").write_text(json.dumps({"small": [{"loss": step["loss"]} for step in mistake["values"]]}))
    assert main(["verify", "conformance", "wrong.json", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["mistakes"] == ["gelu"]
    assert main(["verify", "nowhere", "wrong.json"]) == 2
    assert main(["vectors", "conformance", "--dtype", "bfloat16"]) == 2
    assert "bfloat16" in capsys.readouterr().err
