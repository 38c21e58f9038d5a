"""Subjects in a process of their own: commands in any language, isolated Python, and all the ways to break."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from parity import Case, Config, Hyper, Verdict, check
from parity.cli import main
from parity.cli.help_pages import page
from parity.errors import SubjectError, UsageError
from parity.subjects.attributes import left_out
from parity.subjects.command import Command, CommandSubject, serving
from parity.subjects.messages import PROTOCOL, decoded, encoded, step_of
from parity.subjects.process import Limits, Process
from reference.microgpt import init_params, init_state
from tests.examples import numpy_port

LIMITS = Limits(seconds=30.0)

SUBJECT = """
import json, os, signal, sys, time
{port}

class Subject(Port):
    def load(self, state):
        self.steps = state.step
        super().load(state)
    def train_step(self, batch):
        self.steps += 1
        answer = super().train_step(batch)
        if self.steps == 2:
            {breaks}
        return answer

def make(config, hyper, dtype="float64"):
    print("a subject may print")
    return Subject(config, hyper, dtype)
"""
"""A port that breaks in its second step."""
NUMPY = "from numpy_port import NumpyPort as Port"
"""It starts in a tenth of the time of what imports torch."""
TWIN = "from torch_twin.microgpt import Twin as Port"

SPEAKER = """
import json, os, signal, sys, time

def say(**message):
    sys.stdout.write(json.dumps(message) + chr(10))
    sys.stdout.flush()

for line in sys.stdin:
    message = json.loads(line)
    kind = message["type"]
    if kind == "hello":
        config = message["config"]
        {hello}
    elif kind == "load":
        {load}
    elif kind == "train_step":
        {step}
"""
"""A command that speaks the protocol, line by line."""

READY = f"say(type='ready', protocol={PROTOCOL!r})"
LOADED = "say(type='loaded')"
STEP = "say(type='step', loss=1.0)"


@pytest.fixture(scope="module")
def case() -> Case:
    config = Config(n_layer=1, n_embd=4, n_head=2, block_size=3, vocab_size=4, init_std=0.3)
    state = init_state(init_params(config, random.Random(5)))
    return Case(config, Hyper(num_steps=10), state, [[3, 0, 1, 3], [3, 2, 3]], steps=3)


def broken(folder: Path, breaks: str, port: str = NUMPY) -> Path:
    """The file of a subject that breaks so; what it is made of lies beside it."""
    shutil.copy(numpy_port.__file__, folder / "numpy_port.py")
    file = folder / "port.py"
    file.write_text(SUBJECT.replace("{port}", port).replace("{breaks}", breaks), encoding="utf-8")
    return file


@pytest.fixture
def isolated(tmp_path, case):
    """Check a port that breaks in its second step, in a process of its own."""

    def run(breaks, limits=LIMITS, port=NUMPY, **options):
        file = broken(tmp_path, breaks, port)
        return check(f"{file}:make", case, isolate=True, limits=limits, **options)

    return run


@pytest.fixture
def speaker(tmp_path):
    """The command of a program that speaks the protocol, with parts of it replaced."""

    def make(hello=READY, load=LOADED, step=STEP):
        file = tmp_path / "port.py"
        file.write_text(SPEAKER.format(hello=hello, load=load, step=step))
        return [sys.executable, str(file)]

    return make


def test_isolated_subject_gives_the_same_result_as_in_process(isolated, case):
    result = isolated("pass")
    here = check(numpy_port.make, case)
    assert result.verdict is Verdict.PARITY
    assert result.reason == here.reason
    assert [mode.quantities.keys() for mode in result.modes] == [mode.quantities.keys() for mode in here.modes]


def test_isolated_subject_exposes_sites_and_its_format(isolated):
    result = isolated("pass", port=TWIN, sites=True, dtype="float32")
    assert result.verdict is Verdict.PARITY
    assert result.judge.form.name == "float32"
    assert not result.unchecked
    assert "site grad" in result.modes[0].quantities


def test_isolated_divergence_is_placed_at_its_site(isolated):
    result = isolated("pass; answer.loss += 1e-3", port=TWIN)
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("step 1: loss: ")


@pytest.mark.parametrize(
    ("breaks", "cause"),
    [
        (
            "raise OSError('no such thing')",
            "The subject raised OSError: no such thing (port.py, line 13) in step 1.",
        ),
        ("sys.exit(4)", "The subject raised SystemExit: 4 (port.py, line 13) in step 1."),
        ("os._exit(4)", "The subject called os._exit(4) (port.py, line 13) in step 1."),
        ("import ctypes; ctypes.CDLL(None)._exit(4)", "The subject left with exit status 4 in step 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "The subject was killed by SIGKILL in step 1"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "The subject was killed by SIGSEGV in step 1"),
        ("answer.grads['wte'] = answer.grads['wte'][1:]", "have the shape (3, 4), expected (4, 4)."),
        ("del answer.grads['wte']", "The subject exposes grad wte at some steps and not at others (step 1)."),
        ("answer.grads['wte'] = answer.grads['wte'] * float('nan')", "step 1: grad wte[0,0]: nan, expected "),
        ("answer.grads['wte'] = 'four'", "The subject's grads, wte, are not numbers but <U4."),
        ("answer = None", "The subject's train_step gave nothing back in step 1."),
        ("batch.clear()", "The subject's train_step changed the documents that it was given, in step 1."),
    ],
)
def test_isolated_subject_that_breaks_ends_in_a_verdict_with_the_cause(isolated, breaks, cause):
    result = isolated(breaks)
    diverges = "nan" in breaks
    assert result.verdict is (Verdict.DIVERGED if diverges else Verdict.ERROR)
    assert cause in result.reason
    assert result.modes[0].steps == (3 if diverges else 1)  # what was found before is kept


def test_served_process_outlives_a_model_that_it_refuses(case, tmp_path):
    file = broken(tmp_path, "pass")
    file.write_text(f"{file.read_text(encoding='utf-8')}\ndef plain(config, hyper): return make(config, hyper)\n")
    command = serving(f"{file}:plain", LIMITS)
    subject, process = command(case.config, case.hyper), command.process
    with pytest.raises(UsageError, match="its factory has no parameter 'dtype'"):
        command(case.config, case.hyper, dtype="float32")
    assert command.process is process
    subject.load(case.state)  # greets again
    assert command.current is subject
    assert subject.train_step(case.documents[:1]).loss > 0
    command.close()


def test_isolated_subject_that_hangs_is_ended_in_time_with_all_that_it_started(isolated):
    start = time.monotonic()
    result = isolated("import subprocess; subprocess.Popen(['sleep', '987']); time.sleep(987)", Limits(seconds=8.0))
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("The subject did not answer within 8 s in step 1")
    assert time.monotonic() - start < 60
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "987"]]


def test_isolated_subject_that_leaks_memory_is_ended_at_the_limit(isolated):
    leak = "hoard = []\n            while True: hoard.append(bytearray(1 << 24)); time.sleep(0.01)"
    result = isolated(leak, Limits(seconds=60.0, memory=1 << 30))
    assert result.verdict is Verdict.ERROR
    assert "GiB of memory in step 1, more than the limit of 1 GiB (" in result.reason


def test_memory_of_a_child_counts_as_soon_as_it_is_looked_for(tmp_path):
    hoarder = "import time; hoard = bytearray(1 << 28); time.sleep(987)"
    lines = ["import subprocess, sys", "sys.stdin.readline()", "print('{}', flush=True)", "sys.stdin.readline()"]
    lines += [f"subprocess.Popen([sys.executable, '-c', {hoarder!r}])", "import time; time.sleep(987)"]
    process = Process([sys.executable, "-c", "\n".join(lines)], tmp_path, dict(os.environ))
    limits = Limits(seconds=60.0, memory=1 << 28)
    try:
        process.send({})
        assert process.answer(limits, "the first answer") == {}
        process.send({})
        with pytest.raises(SubjectError, match="GiB of memory in the second answer, more than"):
            process.answer(limits, "the second answer")
    finally:
        process.end()


def test_subject_that_hangs_in_process_is_interrupted(case, tmp_path):
    file = broken(tmp_path, "\n            while True: pass", TWIN)
    result = check(f"{file}:make", case, limits=Limits(seconds=1.0))
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("The subject did not answer within 1 s (port.py, line 14) in step 1. There it was ")
    assert result.modes[0].steps == 1


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ({"hello": "pass"}, "did not answer within 2 s in the greeting"),
        ({"hello": "sys.exit('what?')"}, "left with exit status 1 in the greeting; its last words: what?."),
        ({"hello": "say(type='ready', protocol='other 2')"}, f"speaks the protocol 'other 2', not '{PROTOCOL}'"),
        ({"hello": "say(type='ready')"}, "speaks the protocol None"),
        (
            {"hello": READY.replace(")", ", dtype='float7')")},
            "dtype is 'float7'; it must be one of float64, float32, bfloat16, float16.",
        ),
        ({"hello": "say(type='error', message='vocab_size 4 is odd')"}, "says in the greeting: vocab_size 4 is odd"),
        ({"hello": "print('Loading…', flush=True)"}, "other than a line of JSON in the greeting: Loading…"),
        ({"load": "print('[1, 2', flush=True)"}, "JSON in load before step 0: [1, 2 (standard output is for answers"),
        ({"load": "print('[' * 10**6, flush=True)"}, "other than a line of JSON in load before step 0: [[["),
        ({"load": "say(type='step')"}, "answered with {'type': 'step'} in load before step 0, where type 'loaded'"),
        ({"load": "print(17, flush=True)"}, "answered with 17 in load before step 0"),
        ({"step": "sys.stdout.write('{\"type\": '); sys.stdout.flush(); os._exit(0)"}, "middle of a line in step 0"),
        ({"step": "os.close(1); time.sleep(30)"}, "closed its output in step 0"),
        ({"step": "say(type='step', lost=1.0)"}, "unknown field 'lost'; the fields are loss, logits,"),
        ({"step": "say(type='step', loss='much')"}, "not numbers"),
        ({"step": "say(type='step', loss=[1.0])"}, "has the shape (1,), expected a single number"),
        ({"step": "say(type='step', logits=[[[1.0]]])"}, "logits"),
        ({"step": "say(type='step', logits=[[1.0, 2.0], [3.0]])"}, "logits"),
        ({"step": "say(type='step', logits=3)"}, "cannot be read as a Step"),
        ({"step": "say(type='step', grads=[1])"}, "grads must be a dict"),
    ],
)
def test_command_that_breaks_the_protocol_is_an_error_that_says_how(speaker, case, parts, cause):
    result = check(speaker(**parts), case, limits=Limits(seconds=2.0))
    assert result.verdict is Verdict.ERROR
    assert cause in result.reason
    assert "\n" not in result.reason


def test_command_with_a_loss_of_null_answers_with_nan(speaker, case):
    result = check(speaker(step="say(type='step', loss=None, grads=None)"), case, limits=LIMITS)
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("step 0: loss: nan, expected ")
    assert "grad" in result.unchecked


def test_command_with_options_it_does_not_know_says_so(speaker, case):
    result = check(speaker(), case, dtype="float32", limits=LIMITS)
    assert result.reason == "The subject was to compute in float32 but says that it computes in float64."


def test_command_that_does_not_exist_is_bad_usage(case):
    with pytest.raises(UsageError, match=r"^The command nonesuch --fast cannot be started: No such file"):
        check(["nonesuch", "--fast"], case)


@pytest.mark.parametrize("named", [[], ["port", 3], "-- ", "-- 'unclosed"])
def test_command_without_words_is_bad_usage(case, named):
    with pytest.raises(UsageError):
        check(named, case)


def test_process_serves_one_case_after_another_and_starts_again_after_a_failure(case):
    command = Command([sys.executable, "-m", "parity.serve", "torch_twin.microgpt:make"], LIMITS)
    assert check(command, case).verdict is Verdict.PARITY
    process = command.process
    assert check(command, case, dtype="float32").verdict is Verdict.PARITY
    assert command.process is process
    process.popen.kill()
    assert check(command, case).verdict is Verdict.ERROR
    assert check(command, case).verdict is Verdict.PARITY
    command.close()
    assert process.popen.returncode is not None


def test_named_command_is_run_anew_for_every_check(case, tmp_path):
    file = broken(tmp_path, "pass")
    assert check(f"{file}:make", case, isolate=True).verdict is Verdict.PARITY
    broken(tmp_path, "answer.loss += 1")
    assert check(f"{file}:make", case, isolate=True).verdict is Verdict.DIVERGED


def test_module_of_the_users_own_named_reference_does_not_stand_in_the_way(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reference.py").write_text("raise OSError", encoding="utf-8")
    (tmp_path / "port.py").write_text("from torch_twin.microgpt import make", encoding="utf-8")
    assert check("port.py:make", case, isolate=True).verdict is Verdict.PARITY


def test_flood_leaves_no_thread_behind(case):
    before = set(threading.enumerate())
    for _ in range(2):
        assert check(["yes"], case).verdict is Verdict.ERROR
    deadline = time.monotonic() + 10
    while (threads := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not threads


def test_request_to_end_also_ends_the_subject(tmp_path):
    (tmp_path / "port.py").write_text("import time\ndef make(config, hyper): time.sleep(986)", encoding="utf-8")
    command = [sys.executable, "-m", "parity", "check", str(tmp_path / "port.py:make"), "--isolate"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        served: list[psutil.Process] = []
        while not served:
            time.sleep(0.1)
            served = psutil.Process(process.pid).children()
        time.sleep(1)
        process.terminate()
        assert process.wait(timeout=30) == 143
    _, alive = psutil.wait_procs(served, timeout=10)
    assert not alive


def test_two_models_of_one_process_take_turns(case):
    command = Command([sys.executable, "-m", "parity.serve", "torch_twin.microgpt:make"], LIMITS)
    wide, narrow = (command(case.config, case.hyper, dtype=dtype) for dtype in ("float64", "float32"))
    losses = []
    for subject in (wide, narrow, wide):
        subject.load(case.state)
        losses.append(subject.train_step(case.documents[:1]).loss)
    command.close()
    assert losses[0] == losses[2] != losses[1]


def test_optional_methods_go_through(case):
    command = Command([sys.executable, "-m", "parity.serve", "tests/examples/numpy_port.py:make"], LIMITS)
    subject = command(case.config, case.hyper)
    assert isinstance(subject, CommandSubject)
    assert subject.methods == ["decode", "sample"]
    subject.load(case.state)
    assert len(subject.decode([3, 0])) == 2
    documents = subject.sample(temperature=0.5, count=5, seed=1)
    assert len(documents) == 5
    assert all(0 <= token < 3 for document in documents for token in document)
    command.close()


def test_only_a_subject_with_a_name_can_be_isolated(case):
    from torch_twin.microgpt import make

    with pytest.raises(UsageError, match="Only a subject with a name"):
        check(make, case, isolate=True)


def test_isolated_subject_that_does_not_exist_is_bad_usage(case):
    with pytest.raises(UsageError, match=r"^There is no file nowhere\.py\.$"):
        check("nowhere.py:make", case, isolate=True)
    with pytest.raises(UsageError, match=r"path/to/file\.py:make, not 'nowhere'"):
        check("nowhere", case, isolate=True)


@pytest.mark.parametrize("value", [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")])
def test_numbers_survive_the_protocol_bit_for_bit(value):
    (back,) = decoded(encoded({"loss": [value]}))["loss"]
    assert float(back).hex() == value.hex()


def test_minus_zero_without_a_point_keeps_its_sign():
    assert str(decoded(b'{"loss": -0, "logits": [0, -0]}')) == "{'loss': -0.0, 'logits': [0, -0.0]}"


def test_nan_survives_the_protocol():
    line = encoded({"loss": float("nan"), "message": "null"})
    assert json.loads(line)["loss"] is None
    assert step_of({"type": "step", "loss": decoded(line)["loss"]}).loss != 0
    assert decoded(line)["message"] == "null"


def test_unknown_field_of_a_step_is_an_error():
    with pytest.raises(SubjectError, match="unknown field 'gradients'"):
        step_of({"type": "step", "gradients": {}})


@pytest.mark.parametrize("said", ["storage", "dtype", "sizes", "sites", "tied_head", "not_exercised", "methods"])
def test_null_in_the_greeting_is_as_good_as_nothing(speaker, case, said):
    subject = Command(speaker(f"say(type='ready', protocol={PROTOCOL!r}, {said}=None)"), LIMITS)
    made = subject(case.config, case.hyper)
    plain = Command(speaker(), LIMITS)(case.config, case.hyper)
    assert {n: v for n, v in vars(made).items() if n != "command"} == {
        n: v for n, v in vars(plain).items() if n != "command"
    }


def test_null_for_what_a_step_leaves_unexercised_leaves_the_greetings(speaker, case):
    hello = f"say(type='ready', protocol={PROTOCOL!r}, not_exercised=['padding'])"
    subject = Command(speaker(hello, step="say(type='step', loss=1.0, not_exercised=None, seconds=None)"), LIMITS)
    made = subject(case.config, case.hyper)
    made.load(case.state)
    assert made.train_step(case.documents[:1]).loss == 1.0
    assert left_out(made) == ("padding",)


def test_page_about_the_protocol_is_printed_and_names_every_message(capsys):
    with pytest.raises(SystemExit) as left:
        main(["check", "--help-protocol"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert printed == page("protocol")
    for kind in ("hello", "ready", "load", "loaded", "train_step", "step", "decode", "logits", "sample", "error"):
        assert f'"type": "{kind}"' in printed
    assert PROTOCOL in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.usefixtures("unnamed")
def test_command_line_takes_a_command(speaker, capsys):
    small = ["--steps", "1", "--n-embd", "4", "--only-case"]
    assert main(["check", *small, "--time-limit", "20", "--", *speaker()]) == 1
    printed = capsys.readouterr().out
    assert "subject  -- " in printed
    assert "DIVERGED: step 0: loss: 1, expected " in printed


@pytest.mark.parametrize("arguments", [["check", "a.py:make", "--", "cat"], ["check", "--"]])
def test_command_line_refuses_two_subjects_and_none(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert re.search("takes the place of the SUBJECT|there is no command after --", capsys.readouterr().err)
