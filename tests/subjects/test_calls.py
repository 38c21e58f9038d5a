"""Calls of a subject's code: neither their clock nor what stands in for os._exit outlives them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from parity.errors import SubjectError, UsageError
from parity.options import MOST_SECONDS
from parity.subjects.attributes import attribute
from parity.subjects.calls import guarded, kept_alive, time_limit
from parity.subjects.process import Limits
from parity.subjects.subject import find_factory, make_subject
from reference.config import Config, Hyper


def test_clock_that_rings_at_any_moment_is_taken_down():
    before = signal.getsignal(signal.SIGALRM)
    for microseconds in range(1, 200):
        with pytest.raises(SubjectError, match="did not answer within"), time_limit(microseconds * 1e-6):
            guarded("a call", time.sleep, 10)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is before


def test_exit_is_refused_during_a_call_and_its_own_again_afterwards():
    leave = os._exit
    with pytest.raises(SubjectError, match=r"^The subject called os\._exit\(3\) \(test_calls.* in a call\.$"):
        guarded("a call", lambda: os._exit(3))
    with pytest.raises(SubjectError, match=r"in the inner\.$"):
        guarded("the outer", guarded, "the inner", lambda: os._exit(3))
    assert os._exit is leave


def test_exit_that_was_kept_during_a_call_is_refused_afterwards():
    kept = guarded("a call", lambda: os._exit)
    with pytest.raises(SystemExit):
        kept(0)


def test_exit_is_refused_between_calls_and_to_the_end_if_that_is_asked_for(monkeypatch):
    leave = os._exit
    monkeypatch.setattr("threading.excepthook", lambda thread: None)
    with kept_alive(to_the_end=False):
        guarded("a call", int)
        thread = threading.Thread(target=lambda: os._exit(0))
        thread.start()
        thread.join()
    assert os._exit is leave
    between = r"^The subject called os\._exit\(0\) \(test_.*\) between two calls\.$"
    with pytest.raises(SubjectError, match=between), kept_alive(to_the_end=False):
        os._exit(0)
    monkeypatch.setattr(os, "_exit", leave)  # put back when this test ends
    with kept_alive(to_the_end=True):
        pass
    with pytest.raises(SystemExit):
        os._exit(0)


WRONG = """
import atexit, os, threading, time
from parity.oracle.python_reference import Reference
class Wrong(Reference):
    def train_step(self, batch):
        step = super().train_step(batch)
        step.loss *= 2
        return step
make = Wrong
"""


@pytest.mark.parametrize(
    "leaves",
    [
        "atexit.register(os._exit, 0)",
        "atexit.register(lambda: os._exit(0))",
        "def leave():\n    while True:\n        time.sleep(0.05)\n        try: os._exit(0)\n"
        "        except SystemExit: pass\nthreading.Thread(target=leave, daemon=True).start()",
    ],
    ids=["at the end", "at the end, looked up there", "in a thread, again and again"],
)
def test_subject_that_leaves_behind_what_ends_the_process_does_not_pass(tmp_path, leaves):
    (tmp_path / "wrong.py").write_text(f"{WRONG}{leaves}\n", encoding="utf-8")
    tiny = ["--steps", "1", "--n-embd", "2", "--n-head", "1", "--block-size", "2", "--only-case"]
    command = [sys.executable, "-m", "parity", "check", "wrong.py:make", *tiny]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stdout.startswith(("DIVERGED", "ERROR"))


def test_watchdog_in_a_thread_of_its_own_may_end_the_process(monkeypatch):
    statuses = []

    def leave(status):
        statuses.append(status)
        raise SystemExit  # of the thread

    def watched():
        watchdog = threading.Thread(target=lambda: os._exit(1))
        watchdog.start()
        watchdog.join()

    monkeypatch.setattr(os, "_exit", os._exit)  # which the end of the call sets to leave
    monkeypatch.setattr("parity.subjects.calls._leave_at_once", leave)
    monkeypatch.setattr("threading.excepthook", lambda thread: None)
    guarded("a call", watched)
    monkeypatch.undo()
    assert statuses == [1]


def test_attribute_that_is_missing_is_the_default_and_one_that_raises_a_failure():
    class Odd:
        @property
        def bad(self):
            raise OSError("gone")

    assert attribute(Odd(), "none", 3) == 3
    with pytest.raises(
        SubjectError, match=r"^The subject raised OSError: gone \(test_calls\.py, line \d+\) in its bad"
    ):
        attribute(Odd(), "bad")


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"seconds": 1e300}, {"seconds": float("nan")}, {"memory": 0}])
def test_limits_that_nothing_keeps_are_refused(limits):
    with pytest.raises(UsageError, match=r"^The limit of (time|memory) must be .*\.$"):
        Limits(**limits)
    assert Limits(MOST_SECONDS, 1 << 60)


def test_file_that_has_another_modules_name_is_imported_beside_it(tmp_path):
    for name in ("json", "not a name", "free_name"):
        file = tmp_path / f"{name}.py"
        file.write_text("class Port: load = train_step = print\ndef make(*given): return Port()\n", encoding="utf-8")
        subject = make_subject(find_factory(f"{file}:make"), Config(), Hyper())
        own = name if name == "free_name" else f"parity subject {file}"
        assert type(subject).__module__ == own
    assert sys.modules["json"].loads("3") == 3


def test_two_files_of_one_name_are_two_modules(tmp_path):
    factories = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "twice.py"
        file.write_text(f"def make(*given): return {folder!r}\n", encoding="utf-8")
        factories.append(find_factory(f"{file}:make"))
    assert [make() for make in factories] == ["one", "other"]
    assert factories[0].__module__ != factories[1].__module__
