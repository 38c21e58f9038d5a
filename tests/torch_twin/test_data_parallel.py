"""The data-parallel rung and the ranks that it is made of: right on every batch, and never left hanging."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from torch.distributed import get_rank

from parity import Case, Config, Hyper, Verdict, check
from parity.strategies import cases
from parity.testing import assert_parity
from torch_twin.data_parallel import DataParallel, Loss, Rank
from torch_twin.ranks.subject import Batch

NAME = "torch_twin.data_parallel:make"
ROOT = Path(__file__).parents[2]
SIZES = {"n_embd": 8, "n_head": 2, "block_size": 4}
PATIENCE = 30.0
"""Seconds for processes to end, even on a busy machine."""


def some(batch_size: int, steps: int = 2, preset: str = "microgpt_200") -> Case:
    """A small model on names, most of them longer than its block."""
    return Case.from_names(preset=preset, batch_size=batch_size, steps=steps, config=SIZES)


def ended(pids: list[int]) -> bool:
    """Whether all of these processes end, given time."""
    deadline = time.monotonic() + PATIENCE
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("batch_size", "preset"), [(1, "microgpt_200"), (2, "microgpt_early"), (5, "microgpt_200"), (5, "microgpt_early")]
)
def test_ranks_agree_with_the_reference(batch_size, preset, tmp_path):
    result = assert_parity(NAME, some(batch_size, preset=preset), store=tmp_path)
    assert result.unchecked == []
    assert [mode.mode for mode in result.modes] == ["lock-step", "free-running"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_agree_in_a_narrower_format(dtype, tmp_path):
    assert_parity(NAME, some(3), dtype=dtype, store=tmp_path)


@settings(max_examples=max(1, settings.default.max_examples // 4))
@given(case=cases())
def test_ranks_agree_on_drawn_cases(case):
    assert_parity(NAME, case)


def test_batches_prepared_before_are_trained_on_in_any_order_and_forgotten():
    case = some(3)
    subject, batches, order = DataParallel(case.config, case.hyper), list(case.batches()), (1, 0, 1)
    subject.load(case.state)
    expected = [subject.update(subject.prepare(batches[i])) for i in order]
    subject.load(case.state)
    prepared = [subject.prepare(batch) for batch in batches]
    assert [subject.update(prepared[i]) for i in order] == expected
    gone = prepared.pop().number
    assert subject.dropped == [gone]
    subject.prepare(batches[0])
    with pytest.raises(RuntimeError, match=rf"Rank [01] raised KeyError: {gone} in update"):
        subject.update(Batch(gone))


class EachForItself(Rank):
    def load(self, state):
        super().load(state)
        self.module = Loss(self)


class MeanOfMeans(Rank):
    def prepare(self, batch):
        share, own = super().prepare(batch)
        return float(share > 0), own


class RateOfItsOwn(Rank):
    def descend(self):
        super().descend()
        if get_rank():
            for matrix in self.state.params.values():
                matrix.data.mul_(1.001)


class Hanging(Rank):
    def prepare(self, batch):
        if get_rank():
            time.sleep(1000)
        return super().prepare(batch)


class Dying(Rank):
    def backward(self, inputs, params):
        if get_rank():
            os._exit(7)
        return super().backward(inputs, params)


def made_of(rank: type[Rank], seconds: float = PATIENCE) -> type[DataParallel]:
    return type(rank.__name__, (DataParallel,), {"rung": rank, "seconds": seconds})


@pytest.mark.parametrize(
    ("fault", "mode", "reason"),
    [
        (EachForItself, "lock-step", "step 0: grad lm_head["),
        (MeanOfMeans, "lock-step", "step 0: loss: "),
        (RateOfItsOwn, "free-running", "step 1: "),
    ],
)
def test_planted_fault_is_caught_and_placed(fault, mode, reason):
    result = check(lambda config, hyper: made_of(fault)(config, hyper), some(3), modes=[mode])
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith(reason), result.reason


@pytest.mark.parametrize(
    ("fault", "seconds", "reason"),
    [
        (Hanging, 5.0, "RuntimeError: No answer from rank 0 and rank 1 within 5 s in train_step"),
        (Dying, PATIENCE, "RuntimeError: Rank 1 ended with exit status 7 in train_step"),
    ],
)
def test_rank_that_fails_is_an_error_and_ends_all(fault, seconds, reason):
    subject = made_of(fault, seconds)(Config(**SIZES), Hyper())
    pids = [process.pid for process in subject.ranks.processes]
    result = check(subject, some(2))
    assert result.verdict is Verdict.ERROR
    assert reason in result.reason
    assert ended(pids)
    with pytest.raises(RuntimeError, match="The ranks have ended"):
        subject.train_step([[26, 26]])


def test_rung_that_the_ranks_cannot_import_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "elsewhere", types.SimpleNamespace(Rank=Rank))
    monkeypatch.setattr(Rank, "__module__", "elsewhere")
    with pytest.raises(
        RuntimeError, match=r"Rank [01] raised ModuleNotFoundError: No module named 'elsewhere' in make"
    ):
        DataParallel(Config(**SIZES), Hyper())


def test_processes_are_used_again_by_the_next_subject():
    subject = DataParallel(Config(**SIZES), Hyper())
    pids = [process.pid for process in subject.ranks.processes]
    del subject
    subject = DataParallel(Config(**SIZES), Hyper())
    assert [process.pid for process in subject.ranks.processes] == pids


def test_close_ends_the_processes():
    """After the test above, which leaves its processes to this one: to start some takes seconds."""
    subject = DataParallel(Config(**SIZES), Hyper())
    pids = [process.pid for process in subject.ranks.processes]
    assert all(map(psutil.pid_exists, pids))
    subject.close()
    assert ended(pids)


LEADER = """
import time
from torch_twin.data_parallel import make
from reference.config import Config, Hyper
subject = make(Config(), Hyper())
print(*(process.pid for process in subject.ranks.processes), flush=True)
time.sleep(1000)
"""


def test_processes_end_with_a_leader_that_is_killed():
    leader = subprocess.Popen([sys.executable, "-c", LEADER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with leader:
        pids = [int(pid) for pid in leader.stdout.readline().split()]
        assert len(pids) == 2
        leader.send_signal(signal.SIGKILL)
    assert ended(pids)
