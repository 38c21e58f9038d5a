"""The compiled replay computes the bits of pure Python: every loss, site, gradient, moment and parameter."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from parity import Case, Config, Hyper, State, check
from parity.errors import NoExpectation
from parity.number_formats import FORMATS
from parity.options import ORACLES
from parity.oracle.adam import record_update
from parity.oracle.graph import EXP, LEAF, MUL, record
from parity.oracle.oracle import Oracle
from parity.oracle.program import compile_graph
from parity.oracle.python_reference import Reference
from parity.oracle.replay import Replay, program
from parity.strategies import cases, configs
from parity.tensors import listed_state
from reference.microgpt import init_params, init_state

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "microgpt_200.json").read_text(encoding="utf-8"))

EXTREMES = {
    "tiny": lambda x: x * 1e-150,
    "subnormal": lambda x: x * 2.0**-1050,
    "huge": lambda x: x * 1e3,
    "overflowing": lambda x: x * 1e160,
    "zero": lambda x: 0.0,
    "equal": lambda x: 0.25,
    "minus zero": lambda x: -0.0,
}


def assert_same_bits(actual, expected, what: str) -> None:
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, what
    # Which NaN an operation gives is not IEEE 754's business.
    assert np.array_equal(np.isnan(actual), np.isnan(expected)), what
    both = ~np.isnan(expected)
    assert actual[both].tobytes() == expected[both].tobytes(), what


class ReplayOrReference:
    """The replay, and the reference where Python would have raised."""

    def __init__(self, config, hyper):
        self.config, self.replay, self.reference = config, Replay(config, hyper), Reference(config, hyper)
        self.replay.expose_sites = self.reference.expose_sites = True

    def load(self, state):
        self.replay.load(state)

    def train_step(self, batch):
        step = self.replay.train_step(batch)
        if step is None:
            self.reference.load(listed_state(self.config, self.replay.state))
            step = self.reference.train_step(batch)
            self.replay.load(self.reference.state)
        return step


def event_or_step(side, batch):
    try:
        return side.train_step(batch)
    except NoExpectation as event:
        return str(event)


def assert_same_run(case: Case) -> None:
    """Step by step, replay and reference compute the same bits or raise the same event."""
    replayed, python = ReplayOrReference(case.config, case.hyper), Reference(case.config, case.hyper)
    python.expose_sites = True
    for side in (replayed, python):
        side.load(case.state)
    for batch in case.batches():
        actual, expected = event_or_step(replayed, batch), event_or_step(python, batch)
        if isinstance(expected, str):
            assert actual == expected
            return
        assert_same_bits(actual.loss, expected.loss, "loss")
        for document, rows in enumerate(expected.logits):
            assert_same_bits(actual.logits[document], rows, f"logits of document {document}")
        for field in ("grads", "m", "v", "params"):
            for name, matrix in getattr(expected, field).items():
                assert_same_bits(getattr(actual, field)[name], matrix, f"{field} {name}")
        for field in ("sites", "site_grads"):
            assert list(getattr(actual, field)) == list(getattr(expected, field))
            for site, entries in getattr(expected, field).items():
                for position, entry in enumerate(entries):
                    assert_same_bits(getattr(actual, field)[site][position], entry, f"{field} {site} {position}")


@given(case=cases())
def test_replay_has_the_bits_of_pure_python(case):
    note(f"{case.config}, documents {case.documents}")
    assert_same_run(case)


@given(case=cases(config=configs(max_embd=6, max_block=4), max_steps=2), data=st.data())
def test_replay_has_the_bits_of_pure_python_for_extreme_weights(case, data):
    extreme = data.draw(st.sampled_from(sorted(EXTREMES)), label="extreme")
    names = data.draw(st.lists(st.sampled_from(list(case.state.params)), unique=True), label="tensors")
    params = {
        name: [[EXTREMES[extreme](x) for x in row] for row in matrix] if name in names or not names else matrix
        for name, matrix in case.state.params.items()
    }
    assert_same_run(replace(case, state=replace(case.state, params=params)))


def test_scores_that_lie_unevenly_in_memory_have_the_right_maximum():
    """The largest of a group whose places follow no rule: one dimension, two layers, four positions."""
    config = Config(n_layer=2, n_embd=1, n_head=1, block_size=4, vocab_size=4)
    for seed in range(8):
        assert_same_run(one_step(init_params(config, random.Random(seed)), config, [[3, 0, 0, 0, 3]]))


def test_golden_run_replays_to_the_same_hash(names_file):
    case = Case.from_names(names_file, steps=1000)
    replay = Replay(case.config, case.hyper)
    replay.load(case.state)
    losses = [replay.train_step(batch).loss for batch in case.batches()]
    assert [loss.hex() for loss in losses] == GOLDEN["loss_hex"]
    assert hashlib.sha256(replay.tensors[0].astype("<f8").tobytes()).hexdigest() == GOLDEN["final_params_sha256_le_f64"]


def one_step(params, config: Config, batch) -> Case:
    return Case(config, Hyper(), init_state(params), batch, batch_size=len(batch), steps=1)


def test_what_python_raises_is_reported_and_not_replayed_as_an_infinity():
    config = Config(n_embd=4, n_head=2, block_size=4, vocab_size=4, init_std=0.5)
    params = init_params(config, random.Random(1))
    params["lm_head"] = [[x * 1e4 for x in row] for row in params["lm_head"]]
    case = one_step(params, config, [[3, 0, 1, 3]])
    for source in ORACLES:
        oracle = Oracle(case.config, case.hyper, FORMATS["float64"], limit=10.0, source=source)
        with pytest.raises(NoExpectation, match=r"raises ValueError \(math domain error\) at step 0"):
            oracle.expect(oracle.start(case.state), case.documents)


@pytest.mark.parametrize("sites", [False, True])
def test_both_oracles_give_the_same_json(sites):
    case = Case.from_names(steps=2, batch_size=2, config={"n_layer": 2, "n_embd": 4, "n_head": 2})
    results = [check(case=case, sites=sites, oracle=oracle) for oracle in ("replay", "python")]
    replayed, python = (json.dumps(result.to_dict()) for result in results)
    assert replayed == python


def test_a_training_run_records_one_graph_for_each_length():
    program.cache_clear()
    case = Case.from_names(steps=40)
    replay = Replay(case.config, case.hyper)
    replay.load(case.state)
    for batch in case.batches():
        replay.train_step(batch)
    lengths = {len(tokens) - 1 for tokens in case.documents[: case.steps]}
    assert program.cache_info().misses == len(lengths) < 40


def test_the_graph_of_a_default_document_has_about_68_000_operations():
    graph = record(Config(), 8)
    assert 60_000 < len(graph.tape.op) < 75_000
    assert graph.tape.op.count(LEAF) == Config().num_params() - (27 - 8) * 16 - (16 - 8) * 16
    assert {MUL, EXP} <= set(graph.tape.op)


def test_an_operation_that_replays_wrongly_is_caught(monkeypatch):
    """The property above can fail: swap the order in which two gradients are added up."""
    compiled = compile_graph(record(Config(), 8))
    twisted = replace(compiled, backward=compiled.backward.copy())
    rows = np.flatnonzero(twisted.backward[:, 0] == 13)
    twisted.backward[rows[0], [2, 4]] += twisted.backward[rows[0], [3, 5]] * (twisted.backward[rows[0], 1] - 1)
    twisted.backward[rows[0], [3, 5]] *= -1
    case = Case.from_names(steps=1)
    case = replace(
        case, documents=[next(tokens for tokens in [*case.documents, [26, *range(7), 26]] if len(tokens) == 9)]
    )
    monkeypatch.setattr("parity.oracle.replay.program", lambda config, n: twisted)
    with pytest.raises(AssertionError):
        assert_same_run(case)


def test_state_in_mid_training_is_taken_over():
    config = Config(n_embd=4, n_head=1, block_size=3, vocab_size=3)
    fresh = init_state(init_params(config, random.Random(0)))
    ones = {name: [[0.5 for _ in row] for row in matrix] for name, matrix in fresh.params.items()}
    state = State(fresh.params, ones, ones, step=7)
    assert_same_run(Case(config, Hyper(num_steps=20), state, [[2, 0, 1, 2]], steps=3))


def test_models_that_differ_in_no_operation_share_a_program():
    config = Config(n_embd=4, n_head=2, block_size=4, vocab_size=5)
    same = (
        Config(n_embd=4, n_head=2, block_size=9, vocab_size=5),
        Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, init_std=0.5, zero_init_projections=True),
    )
    other = (
        Config(n_embd=4, n_head=1, block_size=4, vocab_size=5),
        Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, activation="relu2"),
    )
    assert all(program(model, 3) is program(config, 3) for model in same)
    assert not any(program(model, 3) is program(config, 3) for model in other)
    assert program(config, 2) is not program(config, 3)


def test_hyper_parameters_are_recorded_once_and_not_mixed_up():
    assert record_update(Hyper(), 3) is record_update(Hyper(), 3)
    assert record_update(Hyper(), 4).exact.tolist() != record_update(Hyper(), 3).exact.tolist()
    assert record_update(Hyper(beta1=0.5), 3).exact.tolist() != record_update(Hyper(), 3).exact.tolist()
