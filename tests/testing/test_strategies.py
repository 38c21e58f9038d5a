"""The strategies reach every edge, shrink to what can be read, and draw nothing that a correct subject fails."""

import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from parity import Case, Config, Hyper, State, Verdict, check
from parity.oracle.replay import Replay
from parity.strategies import EDGES, SMALL, cases, configs, documents, hypers, states, weights
from parity.testing import assert_parity
from reference.microgpt import init_state
from tests.thinning import THOROUGH
from torch_twin.microgpt import make

MODEL = Config(n_layer=1, n_embd=2, n_head=1, block_size=3, vocab_size=4)
WIDE = replace(MODEL, n_embd=4)

DRAWS = 1000
"""Within so many draws each edge is reached."""


def found(strategy, reached: Callable[[Any], bool], draws: int = DRAWS):
    phases = (Phase.generate, Phase.shrink)
    options = settings(max_examples=draws, database=None, derandomize=True, phases=phases)
    return find(strategy, reached, settings=options)


def flat(matrix) -> list[float]:
    return list(chain(*matrix))


def every(params) -> list[float]:
    return list(chain(*map(flat, params.values())))


def subnormal(x: float) -> bool:
    return 0 < abs(x) < sys.float_info.min


def run_of(params) -> Any:
    """What the reference makes of a document with two different tokens."""
    replay = Replay(WIDE, Hyper())
    replay.load(init_state(params))
    return replay.outcome([[3, 0, 1, 3]])


def attention_of(params) -> list[np.ndarray]:
    document = run_of(params).documents[0]
    return document.sites(document.values)["layer0.attn.weights"]


def dead(params, most: int) -> bool:
    """Whether ReLUs are shut at all positions, at most so many hidden units excepted."""
    document = run_of(params).documents[0]
    alive = np.array(document.sites(document.values)["layer0.mlp.post"]).any(axis=0)
    return np.count_nonzero(alive) == most and any(map(any, params["layer0.mlp_fc1"]))


REACHED = {
    "three layers": (configs(), lambda config: config.n_layer == 3),
    "widest": (configs(), lambda config: config.n_embd == 16),
    "head size 1": (configs(), lambda config: config.n_head == config.n_embd > 4),
    "one head": (configs(), lambda config: config.n_head == 1 and config.n_embd > 4),
    "longest block": (configs(), lambda config: config.block_size == 8),
    "block of one": (configs(), lambda config: config.block_size == 1),
    "largest vocabulary": (configs(), lambda config: config.vocab_size == 8),
    "squared ReLU": (configs(), lambda config: config.activation == "relu2"),
    "all sizes small": (configs(), lambda config: all(low < getattr(config, n) for n, (low, _) in SMALL.items())),
    "cosine": (hypers(), lambda hyper: hyper.lr_schedule == "cosine"),
    "learning rate 0": (hypers(), lambda hyper: hyper.learning_rate == 0),
    "no first moment": (hypers(), lambda hyper: hyper.beta1 == 0),
    "one token": (documents(MODEL), lambda tokens: len(tokens) == 2),
    "one character": (documents(MODEL), lambda tokens: len(tokens) == 3),
    "as long as the block": (documents(MODEL), lambda tokens: len(tokens) - 1 == MODEL.block_size),
    "longer than the block": (documents(MODEL), lambda tokens: len(tokens) - 1 > MODEL.block_size),
    "one character repeated": (documents(MODEL), lambda tokens: len(tokens) > 4 and len(set(tokens[1:-1])) == 1),
    "tensor of zeros": (weights(MODEL), lambda params: any(not any(flat(matrix)) for matrix in params.values())),
    "minus zero": (weights(MODEL), lambda params: math.copysign(1, params["wte"][0][0]) < 0 == params["wte"][0][0]),
    "equal rows": (weights(MODEL), lambda params: params["wte"][0] == params["wte"][1] != [0.0, 0.0]),
    "one value": (weights(WIDE), lambda params: len(set(flat(params["lm_head"]))) == 1),
    "subnormal": (weights(MODEL), lambda params: any(map(subnormal, every(params)))),
    "subnormal in float32": (
        weights(MODEL),
        lambda params: any(2.0**-149 <= abs(x) < 2.0**-126 for x in every(params)),
    ),
    "huge": (weights(MODEL), lambda params: max(map(abs, flat(params["wte"]))) > 1e12),
    "saturated attention": (weights(WIDE), lambda params: max(w[0].max() for w in attention_of(params)[1:]) > 1 - 1e-9),
    "saturated output": (weights(WIDE), lambda params: run_of(params).loss > 8),
    "dead ReLUs": (weights(WIDE), lambda params: dead(params, 0)),
    "ReLUs dead but one": (weights(WIDE), lambda params: dead(params, 1)),
    "plain weights": (weights(MODEL), lambda params: all(x == float(f"{x:.0e}") for x in flat(params["wte"]))),
    "weights of all digits": (
        weights(MODEL),
        lambda params: params["wte"][0][0] != float(f"{params['wte'][0][0]:.9e}"),
    ),
    "mid-training": (states(MODEL), lambda state: state.step and any(flat(state.m["wte"]))),
    "mid-training without moments": (states(MODEL), lambda state: state.step and not any(flat(state.v["wte"]))),
    "first step": (cases(), lambda case: case.state.step == 0),
    "last step": (cases(), lambda case: case.state.step + case.steps == case.hyper.num_steps > 1),
    "several steps of several documents": (
        cases(config=st.just(MODEL)),
        lambda case: case.steps == 3 and case.batch_size == 3,
    ),
    "documents start over": (
        cases(config=st.just(MODEL)),
        lambda case: len(case.documents) < case.steps * case.batch_size,
    ),
}


@pytest.mark.parametrize(("strategy", "reached"), REACHED.values(), ids=REACHED)
def test_edge_is_reached(strategy, reached):
    assert reached(found(strategy, reached))


def test_edge_that_is_left_out_is_not_reached():
    strategy, reached = weights(MODEL, edges=("zeros",)), REACHED["huge"][1]
    with pytest.raises(Exception, match="No examples"):
        found(strategy, reached)


def test_simplest_case_is_the_smallest():
    simplest = found(cases(), lambda case: True)
    assert simplest.config == replace(MODEL, n_embd=1, block_size=1, vocab_size=2)
    assert simplest.hyper == Hyper(num_steps=1)
    assert simplest.documents == [[1, 1]]
    assert simplest.state == State(simplest.state.params, simplest.state.m, simplest.state.v, step=0)
    assert not any(chain(*map(flat, simplest.state.m.values())))
    assert (simplest.steps, simplest.batch_size) == (1, 1)


def test_stored_case_of_the_simplest_weights_can_be_read():
    simplest = found(cases(), lambda case: True)
    assert simplest.state.params["wte"] == [[0.08], [-0.1]]
    assert all(x in (float(f"{x:.0e}"), float(f"{x:.1e}")) for x in every(simplest.state.params))
    assert len(simplest.to_json()) < 1500


SHRUNK = {
    "two heads": (
        cases(),
        lambda case: case.config.n_head > 1,
        lambda case: case.config.n_embd == case.config.n_head == 2,
    ),
    "two layers": (cases(), lambda case: case.config.n_layer > 1, lambda case: case.config.n_layer == 2),
    "a longer document": (
        cases(),
        lambda case: max(map(len, case.documents)) > 3,
        lambda case: case.documents == [[1, 0, 0, 1]],
    ),
    "many weights": (
        cases(),
        lambda case: case.config.num_params() > 100,
        lambda case: case.config.num_params() < 150 and case.documents == [[case.config.vocab_size - 1] * 2],
    ),
    "dead ReLUs": (
        weights(WIDE),
        lambda params: all(x <= 0 for x in flat(params["layer0.mlp_fc1"])),
        lambda params: all(x == float(f"{x:.0e}") for x in flat(params["layer0.mlp_fc1"])),
    ),
}


@pytest.mark.parametrize(("strategy", "failing", "smallest"), SHRUNK.values(), ids=SHRUNK)
def test_what_fails_shrinks_to_the_smallest(strategy, failing, smallest):
    assert smallest(found(strategy, failing))


@given(case=cases())
def test_drawn_case_is_valid_and_within_the_limits(case):
    assert case == replace(case)  # which checks it anew
    config = case.config
    for name, (least, _) in SMALL.items():
        assert least <= getattr(config, name) <= {"n_layer": 3, "n_embd": 16, "block_size": 8, "vocab_size": 8}[name]
    assert 1 <= case.steps <= 3
    assert 1 <= case.batch_size <= 3
    assert case.state.step + case.steps <= case.hyper.num_steps


@given(config=configs(max_layer=1, max_embd=3, max_block=2, max_vocab=3, activations=("relu",)))
def test_maxima_and_activations_are_kept(config):
    assert config.n_layer == 1
    assert config.n_embd <= 3
    assert config.block_size <= 2
    assert config.vocab_size <= 3
    assert config.activation == "relu"


@given(data=st.data(), config=configs())
def test_drawn_moments_could_come_from_training(data, config):
    state = data.draw(states(config), label="state")
    for name in config.shapes():
        for m, v in zip(chain(*state.m[name]), chain(*state.v[name])):
            assert v >= m * m


@given(data=st.data(), config=configs())
def test_embeddings_never_cancel(data, config):
    """A sum that is 0 but for rounding would leave the gates of all ReLUs behind it to rounding."""
    params = data.draw(weights(config, edges=()), label="weights")
    for tokens in params["wte"]:
        for positions in params["wpe"]:
            assert all(a + b != 0 or a == b == 0 for a, b in zip(tokens, positions))


@given(case=cases())
def test_stored_case_is_the_same_to_the_bit(case):
    """Subnormal numbers and -0.0 among the rest: the state's hash is that of its floats in hexadecimal."""
    text = case.to_json()
    again = Case.from_json(text)
    assert again.to_json() == text
    assert (again.config, again.hyper, again.documents) == (case.config, case.hyper, case.documents)
    assert (again.batch_size, again.steps, again.state.step) == (case.batch_size, case.steps, case.state.step)
    for part in ("params", "m", "v"):
        assert in_hexadecimal(getattr(again.state, part)) == in_hexadecimal(getattr(case.state, part))


def in_hexadecimal(tensors) -> dict[str, list[str]]:
    return {name: [x.hex() for x in flat(matrix)] for name, matrix in tensors.items()}


def test_a_changed_bit_in_a_stored_case_is_seen():
    case = found(cases(), lambda case: True)
    stored = json.loads(case.to_json())
    stored["state"]["params"]["wte"][0][0] = math.nextafter(stored["state"]["params"]["wte"][0][0], 1)
    again = Case.from_json(json.dumps(stored))
    assert in_hexadecimal(again.state.params) != in_hexadecimal(case.state.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.usefixtures("by_its_run")
def test_twin_passes_at_the_edge(edge, dtype):
    verdicts = []

    @settings(parent=settings(), max_examples=10, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), case=cases(config=configs(max_embd=6, max_block=4, max_vocab=4), max_steps=2, max_batch=2))
    def inner(data, case):
        params = data.draw(weights(case.config, edges=(edge,)), label="weights")
        case = replace(case, state=replace(case.state, params=params))
        verdicts.append(assert_parity(make, case, dtype=dtype).verdict)

    inner()
    assert all(verdict.passes for verdict in verdicts)


def test_drawn_case_rarely_decides_nothing():
    """A check of a correct subject that comes out INCONCLUSIVE wastes the draw."""
    number, drawn, undecided = 200 if THOROUGH else 100, [], []

    @settings(max_examples=number, database=None, derandomize=True, phases=(Phase.generate,), deadline=None)
    @given(case=cases())
    def inner(case):
        drawn.append(case)
        if check(Replay, case, modes="lock-step").verdict is Verdict.INCONCLUSIVE:
            undecided.append(case)

    inner()
    assert len(drawn) >= number
    assert len(undecided) <= len(drawn) // 100, undecided


def test_vocabulary_of_bos_alone_has_one_document():
    assert found(documents(replace(MODEL, vocab_size=1)), lambda tokens: True) == [0, 0]


def test_strategies_without_hypothesis_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for name in ("parity.strategies", "parity.testing.strategies"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"install microgpt-parity\[test\]"):
        importlib.import_module("parity.strategies")
