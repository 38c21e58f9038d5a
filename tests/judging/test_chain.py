"""Where the scalar graph does not reach, a rung that it vouches for says what is expected; here it is kept back."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from parity import Case, Config, Hyper, Verdict, check
from parity.cli.check_markdown import check_markdown
from parity.cli.check_report import check_report
from parity.cli.terminal import console
from parity.errors import UsageError
from parity.judging.chain.link import links
from parity.judging.cost import estimated_by_chain, require_that_the_chain_fits
from parity.judging.judge import offered_elements
from parity.judging.moderation import FREEDOM
from parity.judging.probes import probes_for
from parity.testing import assert_parity
from parity.testing.assertions import ParityError
from parity.verdict import FALSE_ALARM, limit
from reference.config import Step
from reference.microgpt import init_params, init_state
from tests.faults import ADAM, BACKWARD, FORWARD, planted
from torch_twin import positions
from torch_twin.fused_attention import FusedAttention
from torch_twin.positions import Positions

SMALL = Case.from_names(steps=1, config={"n_layer": 2, "n_embd": 8, "n_head": 2, "block_size": 4})


@pytest.fixture(autouse=True)
def _out_of_reach(monkeypatch):
    monkeypatch.setattr("parity.judging.checking.reached", lambda case, modes: False)
    monkeypatch.setattr("parity.judging.chain.checking.links", lambda case, check, options: [])
    monkeypatch.setattr("parity.judging.chain.run.REPLICAS", 6)  # of which there are more elsewhere


@pytest.fixture
def _vouched(monkeypatch):
    """With the links that other tests do without, one step each."""
    monkeypatch.setattr("parity.judging.chain.checking.links", links)
    monkeypatch.setattr("parity.judging.chain.link._STEPS", 1)


def case_of_faults(steps: int = 1) -> Case:
    """That of tests/judging/test_faults.py."""
    config = Config(n_layer=2, n_embd=8, n_head=2, block_size=4, vocab_size=5, init_std=0.4)
    state = init_state(init_params(config, random.Random(3)))
    return Case(config, Hyper(num_steps=50), state, [[4, 1, 1, 2, 4], [4, 3, 0, 3, 4], [4, 0, 4]], steps=steps)


@pytest.mark.parametrize(
    ("rung", "dtype"),
    [
        ("microgpt", "float64"),
        ("fused_attention", "float64"),
        ("fused_attention", "float32"),
        ("packed", "bfloat16"),
        ("accumulation", "float16"),
    ],
)
def test_rung_passes(rung, dtype):
    result = check(f"torch_twin.{rung}:make", SMALL, dtype=dtype, probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert [mode.mode for mode in result.modes] == ["lock-step"]
    assert result.modes[0].quantities.keys() == {"logits", "loss", "grad", "m", "v", "param"}
    assert all(row.compared > 0 and not row.vacuous for row in result.modes[0].quantities.values())
    assert result.modes[0].repeatable
    assert 0 < result.largest_z < 6
    assert result.judge.limit == limit(FALSE_ALARM, offered_elements(SMALL), FREEDOM + 1)
    assert any("free-running" in phrase for phrase in result.not_exercised)


class MasterWeights(Positions):
    """Weights in float32, arithmetic in bfloat16, as with autocast, but throughout."""

    def __init__(self, config, hyper):
        super().__init__(config, hyper, "bfloat16")
        self.storage = torch.float32

    def loss(self, inputs, params):
        return super().loss(inputs, {name: matrix.bfloat16() for name, matrix in params.items()})


def test_master_weights_have_the_rounding_of_their_storage():
    result = check(MasterWeights, SMALL, probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    rows = result.modes[0].quantities
    assert rows["grad"].power["lm_head"].median > 1e-2
    assert rows["param"].power["lm_head"].median < 1e-4


def test_squared_relu_has_no_gates_to_be_decided():
    case = Case.from_names(preset="microgpt_early", steps=1, config={"n_embd": 8, "n_head": 2})
    state = init_state(init_params(replace(case.config, zero_init_projections=False), random.Random(1)))
    result = check("torch_twin.positions:make", replace(case, state=state), probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert not result.modes[0].near_gates


@pytest.mark.parametrize("fault", [*FORWARD[1:2], *BACKWARD, *ADAM[::2]], ids=lambda fault: fault.name)
def test_planted_fault_is_caught_and_placed(fault):
    with planted(*fault.edits) as make:
        result = check(make, case_of_faults(fault.step + 1), probes=False)
    assert result.verdict is Verdict.DIVERGED
    first = result.modes[0].first_divergence
    assert (first.step, first.quantity, first.tensor) == (fault.step, fault.quantity, fault.tensor)
    origin = result.modes[0].location.origins[0].key
    assert (origin.quantity, origin.tensor) == (fault.quantity, fault.tensor)


def test_wrong_gradient_is_told_by_how_much_and_asked_for_a_second_time_once():
    asked = []

    class Wrong(Positions):
        def train_step(self, batch):
            step = super().train_step(batch)
            asked.append(batch)
            step.grads["lm_head"] = step.grads["lm_head"] * 1.5
            return step

    location = check(Wrong, replace(SMALL, steps=2), probes=False).modes[0].location
    errors = {tensor.key.name: tensor.relative_error for tensor in location.of_quantity("grad")}
    assert errors.pop("lm_head") == pytest.approx(0.5)
    assert max(errors.values()) < 1e-12
    assert len(asked) == 3


def test_steps_follow_each_other_from_where_the_reference_leads():
    result = check("torch_twin.fused_attention:make", replace(SMALL, steps=3), probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].steps == 3


@pytest.mark.usefixtures("_vouched")
def test_rung_with_a_mistake_of_its_own_vouches_for_nothing(monkeypatch):
    def norm(x):
        return x * ((x * x).mean(dim=-1, keepdim=True) + 1.1e-5) ** -0.5

    monkeypatch.setattr(positions, "rmsnorm", norm)
    # The subject shares the mistake, so that both agree.
    result = check("torch_twin.fused_attention:make", SMALL, probes=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "torch_twin.positions, which was to say what is expected" in result.reason
    assert "is not in parity with the reference at n_embd 16, n_layer 1" in result.reason
    assert result.to_dict()["chain"]["links"][0]["verdict"] == "DIVERGED"
    assert not result.modes[0].quantities


@pytest.mark.usefixtures("_vouched")
def test_every_output_says_which_link_vouches_for_which(tmp_path):
    result = check("torch_twin.fused_attention:make", SMALL, probes=False)
    said = f"torch_twin.positions in exact arithmetic, which is in parity with the reference at {result.chain.links[0]}"
    said += f" and {result.chain.links[1]}"
    assert "n_embd 4, n_layer 2, n_head 2, 1 step (largest z" in said
    wide = console()
    wide.width = 400
    with wide.capture() as capture:
        wide.print(check_report(result, "names"))
    assert said in capture.get()
    assert said in check_markdown(result, "names")
    assert said in json.loads(json.dumps(result.to_dict()))["chain"]["expected"]
    held = pytest.raises(ParityError, match="in parity with the reference at")
    with planted(*FORWARD[1].edits) as make, held as error:
        assert_parity(make, SMALL, store=tmp_path, probes=False)
    assert "expected: torch_twin.positions in exact arithmetic" in str(error.value)


def test_probes_are_judged_beside_the_scalar_graph(monkeypatch):
    few = probes_for(SMALL.config, SMALL.hyper, "float64")[:2]
    monkeypatch.setattr("parity.judging.probing.probes_for", lambda *model: few)
    result = check("torch_twin.fused_attention:make", SMALL, probes=True)
    assert result.verdict is Verdict.PARITY
    assert {found.verdict for found in result.probes} == {Verdict.PARITY}
    assert all(found.result.chain is None for found in result.probes)


class UnseenRelu(Positions):
    """Its ReLUs are no operation that an observer knows."""

    def layer(self, x, w, mask=None):
        x = x + positions.linear(self.attention(positions.rmsnorm(x), w, mask), w["attn_wo"])
        pre = positions.linear(positions.rmsnorm(x), w["mlp_fc1"])
        return x + positions.linear(torch.where(pre > 0, pre, torch.zeros_like(pre)), w["mlp_fc2"])


WIDE = Case.from_names(seed=5, steps=1, batch_size=2, config={"n_layer": 2, "n_embd": 16, "n_head": 4, "block_size": 8})


def test_own_gates_are_those_that_were_observed():
    result = check("torch_twin.positions:make", WIDE, dtype="bfloat16", probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].turned_gates > 0
    assert result.modes[0].near_gates > result.modes[0].turned_gates


def test_gates_that_nobody_saw_make_what_is_outside_inconclusive():
    result = check(UnseenRelu, WIDE, dtype="bfloat16", probes=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "ReLUs in this step, and nobody saw what the subject did" in result.reason
    assert result.undecided_outside


class DeadBand(Positions):
    """Its ReLUs close for what is no more than a hundredth, each of which lies near its kink in bfloat16."""

    def layer(self, x, w, mask=None):
        x = x + positions.linear(self.attention(positions.rmsnorm(x), w, mask), w["attn_wo"])
        pre = positions.linear(positions.rmsnorm(x), w["mlp_fc1"])
        return x + positions.linear(torch.where(pre > 0.03, pre, -pre.abs()).relu(), w["mlp_fc2"])


def test_dead_band_is_no_rounding():
    result = check(DeadBand, WIDE, dtype="bfloat16", probes=False)
    assert result.verdict is Verdict.DIVERGED, result.reason


class Unstable(FusedAttention):
    """Its logits lose digits, in every format alike."""

    def forward(self, tokens, params, positions=None, mask=None):
        return (super().forward(tokens, params, positions, mask) + 3e4) - 3e4


def test_loss_of_precision_is_no_other_function():
    result = check(Unstable, SMALL, dtype="float32", probes=False)
    assert result.verdict is Verdict.PRECISION_LOSS, result.reason
    assert "an unstable way to compute the right function" in result.reason


class Forgetful(Positions):
    """Asked a second time, it answers something else."""

    asked = 0

    def train_step(self, batch):
        step = super().train_step(batch)
        self.asked += 1
        step.logits = [rows + (self.asked > 1) * 1e-3 for rows in step.logits]
        return step


def test_second_answer_that_is_another_one_diverges():
    result = check(Forgetful, SMALL, probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert "a second time" in result.reason


def test_what_is_not_exposed_is_unchecked():
    class Partial(Positions):
        def train_step(self, batch):
            step = super().train_step(batch)
            del step.grads["wpe"]
            return Step(step.loss, step.logits, step.grads, step.params)

    result = check(Partial, SMALL, probes=False)
    assert result.verdict is Verdict.PARITY
    assert result.unchecked == ["grad wpe", "m", "v", "param wpe"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("grads", {"wpx": [[0.0]]}, "have the unknown wpx (is it wpe?)"),
        ("logits", [[[0.0]]], "have the shape (1, 1), expected (4, 27)"),
        ("params", {}, "hold no tensor"),
        ("m", {"wte": [[1.0]]}, "have the shape (1, 1), expected (27, 8)"),
    ],
)
def test_answer_that_cannot_be_compared_is_an_error(field, value, message):
    class Strange(Positions):
        def train_step(self, batch):
            step = super().train_step(batch)
            setattr(step, field, value)
            return step

    result = check(Strange, SMALL, probes=False)
    assert result.verdict is Verdict.ERROR
    assert message in result.reason
    assert "There it was given document 0 of the case" in result.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": True}, "leave out --sites"),
        ({"truth": True}, "leave out --sites and --truth"),
        ({"modes": "free-running"}, "lock-step alone"),
        ({"isolate": True}, "without --isolate"),
    ],
)
def test_what_only_the_scalar_graph_answers_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        check("torch_twin.positions:make", SMALL, **options)


def test_command_is_refused():
    with pytest.raises(UsageError, match="name a factory in Python"):
        check(["./port"], SMALL)


def test_large_model_is_drawn_in_arrays_and_given_as_such(monkeypatch):
    monkeypatch.setattr("parity.case.LISTED", 1000)
    config = {"n_embd": 8, "n_head": 2, "block_size": 4}
    case, again, other = (Case.from_names(seed=seed, steps=1, config=config) for seed in (1, 1, 2))
    weights = case.state.params["layer0.attn_wq"]
    assert isinstance(weights, np.ndarray)
    assert np.array_equal(weights, again.state.params["layer0.attn_wq"])
    assert not np.array_equal(weights, other.state.params["layer0.attn_wq"])
    assert np.std(weights) == pytest.approx(0.08, rel=0.3)
    given = []

    class Keeping(Positions):
        def load(self, state):
            given.append(type(state.params["wte"]))
            super().load(state)
            for matrix in state.params.values():
                matrix[:] = 0.0  # it is the subject's own

    assert check(Keeping, case, probes=False).verdict is Verdict.PARITY
    assert set(given) == {np.ndarray}
    with pytest.raises(UsageError, match="is not stored; its seed draws it again"):
        case.to_json()
    broken = {**case.state.params, "wte": np.full((27, 8), np.nan)}
    with pytest.raises(UsageError, match="params wte must hold finite numbers only"):
        replace(case, state=replace(case.state, params=broken))


def test_what_does_not_fit_the_chain_either_is_refused(monkeypatch):
    large = estimated_by_chain(SMALL)
    assert estimated_by_chain(replace(SMALL, batch_size=32)).memory > large.memory
    assert estimated_by_chain(replace(SMALL, steps=5)).seconds == pytest.approx(5 * large.seconds, rel=0.5)
    monkeypatch.setattr("parity.judging.cost._CHAIN_BYTES", 1e12)
    with pytest.raises(UsageError, match=r"so it is not begun: .* for the scalar graph and for the chain of trust\."):
        require_that_the_chain_fits(SMALL)
