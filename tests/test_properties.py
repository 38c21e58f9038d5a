"""Drawn configs, weights, documents and hyper-parameters: the twin against the reference, and what a check catches."""

import importlib
import re
import shlex
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import Phase, event, find, given, note, settings
from hypothesis import strategies as st

from parity import Case, Config, State, Step, Verdict, check
from parity.strategies import cases, configs, documents, hypers, states, weights
from parity.subjects import Reference
from parity.testing import assert_parity
from tests.faults import planted
from torch_twin.microgpt import Twin, make

QUANTITIES = {"loss", "logits", "grad", "m", "v", "param"}

WRONG_BETA2 = ("hyper.beta2 * state.v[name] + (1 - hyper.beta2)", "0.3 * state.v[name] + 0.7")

PHASES = (Phase.generate, Phase.shrink)
"""Without the phase that explains a failure, which takes longer than finding it."""


def describe(case: Case) -> None:
    note(f"{case.config}\n{case.hyper}\nstep {case.state.step}, {case.steps} steps of {case.batch_size}")
    note(f"documents: {case.documents}")
    event(f"n_layer {case.config.n_layer}")
    event("mid-training" if case.state.step else "fresh")


@given(case=cases())
def test_twin_agrees_with_the_reference_at_every_step(case):
    describe(case)
    result = assert_parity(make, case)
    assert result.unchecked == []
    for mode in result.modes:
        assert mode.steps == case.steps
        expected = case.config.num_params() * case.steps
        assert {row.quantity for row in mode.quantities.values()} == QUANTITIES
        assert all(mode.quantities[quantity].compared == expected for quantity in ("grad", "m", "v", "param"))


@given(case=cases(config=configs(max_embd=8, max_block=5), max_steps=1))
def test_twin_agrees_at_every_site_and_its_gradient(case):
    describe(case)
    result = assert_parity(make, case, sites=True)
    assert {"site", "site grad"} <= {row.quantity for row in result.modes[0].quantities.values()}


@pytest.mark.parametrize("make_subject", [Reference, Twin])
@given(case=cases(max_steps=1))
def test_weights_come_back_from_a_step_with_learning_rate_0(make_subject, case):
    describe(case)
    subject = make_subject(case.config, replace(case.hyper, learning_rate=0.0))
    subject.load(case.state)
    actual = subject.train_step(next(case.batches())).params
    assert {name: as_lists(matrix) for name, matrix in actual.items()} == case.state.params


def as_lists(matrix):
    return matrix.tolist() if hasattr(matrix, "tolist") else matrix


class Perturbed(Twin):
    """The twin, but for one element of one answer, which is a millionth off."""

    def __init__(self, config, hyper, step: int, field: str, tensor: str | int | None, index: tuple[int, ...]) -> None:
        super().__init__(config, hyper)
        self.step, self.field, self.tensor, self.index = step, field, tensor, index

    def train_step(self, batch: list[list[int]]) -> Step:
        now = self.state.step
        answer = super().train_step(batch)
        if now != self.step:
            return answer
        if self.field == "loss":
            answer.loss = off_by_a_millionth(answer.loss)
            return answer
        # A copy: what the subject answers must not change the state that it goes on from.
        tensors = getattr(answer, self.field)
        tensors = list(tensors) if self.field == "logits" else dict(tensors)
        tensors[self.tensor] = tensors[self.tensor].clone()
        tensors[self.tensor][self.index] = off_by_a_millionth(tensors[self.tensor][self.index])
        setattr(answer, self.field, tensors)
        return answer


def off_by_a_millionth(x):
    return x + 1e-6 * max(abs(x), 1e-3)


@given(data=st.data())
def test_perturbation_of_one_element_is_caught_and_placed(data):
    # With a larger eps_adam no parameter depends on the rounding of a gradient that is 0 but for rounding.
    case = data.draw(cases(), label="case")
    case = replace(case, hyper=replace(case.hyper, eps_adam=1e-3))
    describe(case)
    step = data.draw(st.integers(0, case.steps - 1), label="step")
    field = data.draw(st.sampled_from(["loss", "logits", "grads", "m", "v", "params"]), label="field")
    if field == "loss":
        tensor, shape = None, ()
    elif field == "logits":
        batch = list(case.batches())[step]
        tensor = data.draw(st.integers(0, case.batch_size - 1), label="document")
        shape = (min(case.config.block_size, len(batch[tensor]) - 1), case.config.vocab_size)
    else:
        tensor = data.draw(st.sampled_from(list(case.config.shapes())), label="tensor")
        shape = case.config.shapes()[tensor]
    index = tuple(data.draw(st.integers(0, size - 1), label="index") for size in shape)
    number = case.state.step + step
    subject = Perturbed(case.config, case.hyper, number, field, tensor, index)

    result = check(subject, case, modes=["lock-step"])

    assert result.verdict is Verdict.DIVERGED
    quantity = {"grads": "grad", "params": "param"}.get(field, field)
    name = {"loss": "loss", "logits": f"document {tensor}"}.get(field, tensor)
    first = result.modes[0].first_divergence
    assert (first.step, first.quantity, first.tensor, first.index) == (number, quantity, name, index)


def test_failing_property_shrinks_and_leaves_one_case_that_repeats_it(tmp_path):
    with planted(WRONG_BETA2) as wrong:

        @settings(max_examples=20, database=None, phases=PHASES)
        @given(case=cases(config=configs(max_embd=4)))
        def inner(case):
            assert_parity(wrong, case, store=tmp_path)

        with pytest.raises(AssertionError) as caught:
            inner()

        message = str(caught.value)
        assert message.startswith("DIVERGED: step ")
        assert "\n" not in message
        (stored,) = tmp_path.iterdir()
        assert shlex.quote(str(stored)) in message
        case = Case.load(stored)
        assert check(wrong, case).reason in message

    config = case.config
    assert (config.n_layer, config.n_embd, config.n_head, config.block_size, config.vocab_size) == (1, 1, 1, 1, 2)
    assert config.activation == "relu"
    assert case.documents == [[1, 1]]
    assert (case.steps, case.batch_size) == (1, 1)


def test_failure_names_the_command_that_repeats_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("port.py").write_text("from torch_twin.microgpt import make\ndef broken(config, hyper): raise OSError('no')\n")
    with pytest.raises(AssertionError, match=r"^ERROR: .*OSError: no") as caught:
        assert_parity("port.py:broken", Case.from_names(steps=1), modes=["lock-step"])
    command = str(caught.value).rpartition("Repeat with: ")[2]
    assert re.fullmatch(r"parity replay \.parity/[0-9a-f]{12}\.json --mode lock-step port\.py:broken", command)
    assert_parity("port.py:make", Case.load(Path(shlex.split(command)[2])), modes=["lock-step"])


def test_check_that_decides_nothing_is_no_pass(tmp_path):
    class Silent(Twin):
        def train_step(self, batch):
            return Step()

    with pytest.raises(AssertionError, match=r"^INCONCLUSIVE: "):
        assert_parity(lambda config, hyper: Silent(config, hyper), Case.from_names(steps=1), store=tmp_path)


SMALL = Config(n_layer=1, n_embd=2, n_head=1, block_size=3, vocab_size=4)

EDGES = {
    "three layers": (configs(), lambda config: config.n_layer == 3),
    "widest": (configs(), lambda config: config.n_embd == 16),
    "head size 1": (configs(), lambda config: config.n_head == config.n_embd > 4),
    "one head": (configs(), lambda config: config.n_head == 1 and config.n_embd > 4),
    "longest block": (configs(), lambda config: config.block_size == 8),
    "squared ReLU": (configs(), lambda config: config.activation == "relu2"),
    "cosine": (hypers(), lambda hyper: hyper.lr_schedule == "cosine"),
    "learning rate 0": (hypers(), lambda hyper: hyper.learning_rate == 0),
    "no first moment": (hypers(), lambda hyper: hyper.beta1 == 0),
    "empty document": (documents(SMALL), lambda tokens: len(tokens) == 2),
    "one character": (documents(SMALL), lambda tokens: len(tokens) == 3),
    "longer than the block": (documents(SMALL), lambda tokens: len(tokens) - 1 > SMALL.block_size),
    "repeated token": (documents(SMALL), lambda tokens: len(set(tokens[1:-1])) < len(tokens[1:-1])),
    "zero tensor": (weights(SMALL), lambda params: any(not any(map(any, matrix)) for matrix in params.values())),
    "equal rows": (weights(SMALL), lambda params: params["wte"][0] == params["wte"][1] != [0.0, 0.0]),
    "mid-training": (states(SMALL), lambda state: state.step and any(map(any, state.m["wte"]))),
    "several steps of several documents": (
        cases(config=st.just(SMALL)),
        lambda case: case.steps == 3 and case.batch_size == 3,
    ),
    "documents start over": (
        cases(config=st.just(SMALL)),
        lambda case: len(case.documents) < case.steps * case.batch_size,
    ),
}


@pytest.mark.parametrize(("strategy", "reached"), EDGES.values(), ids=EDGES)
def test_strategies_reach_the_edge(strategy, reached):
    edge_settings = settings(max_examples=2000, database=None, derandomize=True, phases=PHASES)
    assert reached(find(strategy, reached, settings=edge_settings))


def test_simplest_case_is_the_smallest():
    simplest = find(
        cases(), lambda case: True, settings=settings(max_examples=10, database=None, derandomize=True, phases=PHASES)
    )
    config = replace(SMALL, n_embd=1, block_size=1, vocab_size=2)
    assert simplest.config == config
    assert simplest.documents == [[1, 1]]
    assert simplest.state == State(simplest.state.params, simplest.state.m, simplest.state.v, step=0)
    assert (simplest.steps, simplest.batch_size) == (1, 1)


def test_strategies_without_hypothesis_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "parity.strategies")
    with pytest.raises(ImportError, match=r"install microgpt-parity\[test\]"):
        importlib.import_module("parity.strategies")


@given(data=st.data(), config=configs())
def test_drawn_moments_could_come_from_training(data, config):
    state = data.draw(states(config), label="state")
    for name in config.shapes():
        for m, v in zip(chain(*state.m[name]), chain(*state.v[name])):
            assert v >= m * m
