"""In short formats a subject is held to the gates that it took, as its sites show or as they are observed."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from typing_extensions import override

from parity import Case, Hyper, State, Verdict, check
from parity.judging.exchange import Run
from parity.judging.judge import Judge
from parity.judging.relu_gates import _pursuit, observed_gates, shown_gates
from parity.number_formats import FORMATS
from parity.oracle.oracle import Nearness
from parity.subjects.observed_relus import ReluObserver
from tests.implementations import IMPLEMENTATIONS
from torch_twin.microgpt import Twin
from torch_twin.positions import Positions

pytestmark = pytest.mark.usefixtures("by_its_run")

DEEP = Case.from_names(seed=3, steps=5, batch_size=4, config={"n_layer": 3, "n_embd": 4, "n_head": 2, "block_size": 4})


@pytest.mark.parametrize("subject", ["microgpt", "positions", "padded", "packed", "fused_attention", "accumulation"])
def test_deep_and_narrow_model_in_bfloat16_is_no_false_alarm(subject):
    # Lock-step, in which nothing accumulates, is left to the probes.
    result = check(f"torch_twin.{subject}:make", DEEP, dtype="bfloat16", modes="free-running")
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].turned_gates > 0
    assert max(row.largest_z.z for mode in result.modes for row in mode.quantities.values()) < 7


def run_of(subject, form: str) -> Run:
    return Run(DEEP, subject, Judge(FORMATS[form], 10.0, 1e-9))


def test_gates_that_are_shown_are_those_that_are_observed():
    config, hyper, (batch, *_) = DEEP.config, DEEP.hyper, DEEP.batches()
    twin, positions = Twin(config, hyper, "bfloat16"), Positions(config, hyper, "bfloat16")
    run = run_of(twin, "bfloat16")
    point = run.oracle.start(run.rounded(DEEP.state))
    for subject in (twin, positions):
        subject.load(DEEP.state)
    twin.expose_sites = True
    shown = shown_gates(run.oracle, batch, twin.train_step(batch).sites)
    with ReluObserver(4 * config.n_embd) as observer:
        positions.train_step(batch)
    observed = observed_gates(run.oracle, point, batch, observer.inputs)
    assert observed.keys() == shown.keys()
    assert sum(observed[gate] != shown[gate] for gate in shown) < len(shown) / 20  # each rounds in its own way


def test_documents_that_lie_last_are_observed_too():
    with ReluObserver(8) as observer:
        torch.ones(8, 3, 2).relu()
        torch.ones(5, 4).relu()
        torch.ones(2, 8).clamp(min=0)
    assert observer.inputs.shape == (8, 8)


def test_sites_that_tell_nothing_of_gates_are_no_gates():
    run = run_of(Twin(DEEP.config, DEEP.hyper, "bfloat16"), "bfloat16")
    batch = next(DEEP.batches())
    assert shown_gates(run.oracle, batch, None) is None
    assert shown_gates(run.oracle, batch, {"layer0.attn.q": []}) is None
    assert shown_gates(run.oracle, batch, {f"layer{i}.mlp.post": ["?"] for i in range(3)}) is None


class HalfOpen(Twin):
    """A ReLU that lets half of a gradient through where it is closed: no choice of gates is that."""

    def train_step(self, batch):
        step = super().train_step(batch)
        step.grads["layer0.mlp_fc1"] = step.grads["layer0.mlp_fc1"] * 1.5
        return step


def test_own_gates_explain_nothing_else():
    result = check(lambda config, hyper: HalfOpen(config, hyper, "bfloat16"), replace(DEEP, steps=1), modes="lock-step")
    assert result.verdict.exit_status == 1


class Closed(Twin):
    """Says of its sites that every unit is closed, which rounding does not explain."""

    def train_step(self, batch):
        step = super().train_step(batch)
        if step.sites:
            step.sites = {
                site: [torch.zeros_like(entry) for entry in entries] if site.endswith("mlp.post") else entries
                for site, entries in step.sites.items()
            }
        return step


def test_gates_shown_wrongly_buy_nothing():
    case = Case.from_names(steps=2)
    assert not check(lambda config, hyper: Closed(config, hyper, "bfloat16"), case).verdict.passes


@pytest.mark.parametrize(("number", "name"), list(enumerate(IMPLEMENTATIONS))[1:], ids=list(IMPLEMENTATIONS)[1:])
def test_products_in_a_short_format_and_weights_in_float32_are_decided(number, name):
    dtype = ("float16", "bfloat16")[number % 2]  # the calibration checks both for each

    def mixed(config, hyper):
        return IMPLEMENTATIONS[name](config, hyper, dtype, "float32")

    result = check(mixed, Case.from_names(steps=2, batch_size=2, config={"n_layer": 2, "n_embd": 8, "n_head": 2}))
    assert result.verdict is Verdict.PARITY, result.reason
    assert (result.judge.form.name, result.judge.storage.name) == (dtype, "float32")


def test_weights_that_lie_in_a_short_format_unannounced_are_seen():
    """Master weights are said to be float32, and are rounded to bfloat16 after every update."""
    base = IMPLEMENTATIONS["all positions at once"]

    def make(config, hyper):
        subject = base(config, hyper, "bfloat16", "float32")
        update = subject._adam

        def rounding(grads):
            update(grads)
            subject.params = {name: tensor.bfloat16().float() for name, tensor in subject.params.items()}

        subject._adam = rounding
        return subject

    assert check(make, Case.from_names(steps=2)).verdict.exit_status == 1


def short(matrix):
    return [[float(f"{x:.9g}") for x in row] for row in matrix.tolist()]


class NineDigits(Twin):
    """A float32 port whose answers are written with nine digits."""

    def train_step(self, batch):
        step = super().train_step(batch)
        for part in ("grads", "params", "m", "v"):
            tensors = getattr(step, part)
            setattr(
                step, part, {n: [[float(f"{x:.9g}") for x in row] for row in t.tolist()] for n, t in tensors.items()}
            )
        step.logits = [[[float(f"{x:.9g}") for x in row] for row in rows.tolist()] for rows in step.logits]
        step.loss = float(f"{step.loss:.9g}")
        return step


def test_nine_digits_are_enough_for_float32():
    result = check(lambda config, hyper: NineDigits(config, hyper, "float32"), Case.from_names(steps=3))
    assert result.verdict is Verdict.PARITY, result.reason


class Float32Betas(Twin):
    """Its betas are constants of float32."""

    def __init__(self, config, hyper, dtype="float32"):
        betas = (float(torch.tensor(beta, dtype=torch.float32)) for beta in (hyper.beta1, hyper.beta2))
        beta1, beta2 = betas
        super().__init__(config, Hyper(**{**vars(hyper), "beta1": beta1, "beta2": beta2}), dtype)


def test_betas_that_are_constants_of_float32_do_not_add_up_to_a_false_alarm():
    """The moments of rows without a gradient shrink by the constant alone, hundreds of times."""
    case = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    case = Case(case.config, Hyper(), case.state, [[26, 0, 26], [26, 1, 26]], steps=300)
    result = check(Float32Betas, case, modes=("free-running",))
    assert result.verdict is Verdict.PARITY, result.reason


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, where it compiles
def test_what_is_compiled_is_judged_and_not_what_it_was_compiled_from():
    ran = []

    def backend(graph, inputs):
        def wrong(*arguments):
            ran.append(graph)
            return tuple(-result for result in graph(*arguments))

        return wrong

    def make(config, hyper):
        twin = Positions(config, hyper, "bfloat16")
        twin.split_heads = torch.compile(twin.split_heads, backend=backend)
        return twin

    for mode in ("lock-step", "free-running"):
        ran.clear()
        torch.compiler.reset()  # it compiles a function only so often
        result = check(make, replace(DEEP, steps=2), modes=mode)
        assert ran, result.reason
        assert result.verdict is Verdict.DIVERGED


def underflowing(seed: int) -> Case:
    """A case of which float32 cannot hold the inputs of the first layer's ReLUs: beta1 moves zeros by 1e-206."""
    config = {"n_layer": 1, "n_embd": 2, "n_head": 1, "block_size": 3}
    case = Case.from_names(seed=seed, steps=2, config=config, hyper={"beta1": 1e-203})
    rng = random.Random(seed)
    params = case.state.params | {"layer0.mlp_fc1": [[0.0, 0.0] for _ in range(8)]}
    m = {name: [[rng.gauss(0, 0.03) for _ in row] for row in params[name]] for name in params}
    v = {name: [[2 * x * x for x in row] for row in m[name]] for name in m}
    return replace(case, state=State(params, m, v, step=1))


@pytest.mark.parametrize("seed", range(3))
def test_inputs_that_vanish_in_the_format_shut_their_gates(seed):
    result = check("torch_twin.microgpt:make", underflowing(seed), dtype="float32", modes="free-running")
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].turned_gates > 3


class ShiftedFirstLayer(Twin):
    @override
    def train_step(self, batch):
        step = super().train_step(batch)
        grads = {**step.grads, "layer0.mlp_fc1": step.grads["layer0.mlp_fc1"] + 1e-3}
        return replace(step, grads=grads)


def test_a_fault_beside_gates_that_vanish_is_seen():
    result = check(ShiftedFirstLayer, underflowing(0), dtype="float32", modes="free-running")
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.tensor == "layer0.mlp_fc1"


@pytest.mark.parametrize(
    ("left", "effects", "near", "chosen"),
    [
        ([5.0], [[5.0]], [(4.0, 0.0)], [0]),
        ([5.0], [[5.0]], [(6.0, 0.0)], []),  # that rounding moves an input so far is less likely than what is left
        ([-100.0], [[-100.0]], [(1.0, 0.1)], [0]),
        ([-80.0], [[-100.0]], [(1.0, 0.1)], [0]),  # an effect is as uncertain as the gradient behind the gate
        ([-80.0, 0.0], [[-100.0, 0.0], [-80.0, 40.0]], [(1.0, 0.1), (1.0, 0.1)], [0]),
        ([7.0, 9.0], [[7.0, 0.0], [0.0, 9.0], [7.0, -9.0]], [(1.0, 0.0)] * 3, [0, 1]),
    ],
)
def test_a_gate_is_turned_where_that_is_likelier_than_what_is_left_without_it(left, effects, near, chosen):
    gates = [Nearness(distance, noise, natural=True, vanishes=False) for distance, noise in near]
    found = _pursuit(np.array(left), np.array(effects), gates, np.ones(len(left)), with_input=False)
    assert sorted(found) == chosen
