"""What is timed: whole steps from one state on documents of usual length, beside the reference."""

import json
import random

import pytest

from parity import Case, Config, Hyper
from parity.subjects.timing import Timing, batch_of, timed, typical
from reference.microgpt import init_params, init_state
from tests.examples.numpy_port import make


@pytest.fixture(scope="module")
def case() -> Case:
    """The reference, which is timed as well, takes 126 steps of it."""
    config = Config(n_embd=4, n_head=2, block_size=2, vocab_size=5, init_std=0.3)
    documents = [[4, *(i % 4 for i in range(number, number + 1 + number % 5)), 4] for number in range(30)]
    return Case(config, Hyper(), init_state(init_params(config, random.Random(1))), documents, steps=2)


def test_batches_of_all_sizes_are_about_as_long_as_all_documents():
    documents = [[0] * (2 + i * i // 50) for i in range(100)]
    mean = sum(map(len, documents)) / 100
    for size in (10, 20, 99, 100, 101, 110, 256, 1024):
        batch = batch_of(documents, size)
        assert len(batch) == size
        assert sum(map(len, batch)) / size == pytest.approx(mean, rel=0.02)
    assert len(batch_of(documents, 1)[0]) == len(documents[50])
    assert typical(documents, 0) == []


def test_what_is_timed_is_whole_steps_from_one_state(case):
    calls = []

    class Counting:
        def __init__(self) -> None:
            self.inner = make(case.config, case.hyper)

        def load(self, state):
            calls.append("load")
            self.inner.load(state)

        def prepare(self, batch):
            calls.append("prepare")
            return batch

        def update(self, inputs):
            calls.append(len(inputs))
            return self.inner.train_step(inputs)

        train_step = None

    args = (case.config, case.hyper, case.state, case.documents, (1, 8))
    timing = timed(Counting(), *args, threads=1, round_seconds=0.01)
    assert calls.count("prepare") == 2 + 1 + 20  # every size, the best one again, single documents
    assert set(calls) == {"load", "prepare", 1, 8}
    assert timing.best in (1, 8)
    assert timing.memory >= 0


@pytest.mark.parametrize(("claim", "alone"), [("forward_only", True), ("without_update", False)])
def test_only_a_subject_that_has_no_gradients_is_timed_beside_the_forward_pass_alone(case, claim, alone):
    subject = make(case.config, case.hyper)
    setattr(subject, claim, True)
    args = (case.config, case.hyper, case.state, case.documents, (1,))
    assert timed(subject, *args, threads=1, round_seconds=0.0).forward_only is alone


def test_timing_survives_json():
    timing = Timing(0.5, batches={1: 0.5, 16: 0.25}, best=16, reference=2.0, reference_batch=1.0)
    assert Timing.from_dict(json.loads(json.dumps(timing.to_dict()))) == timing
