"""Verdicts without tolerances: what the noise floor accepts, refuses, and cannot tell."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from parity import Case, Config, Hyper, Verdict, check
from parity.judging.pairing import paired
from parity.judging.result import Result
from parity.number_formats import FORMATS
from parity.oracle.exact_kernels import OPEN
from parity.oracle.noisy_replay import REPLICAS, Noise
from parity.oracle.oracle import Oracle
from parity.oracle.replay import Replay, program
from parity.oracle.spread import deviation
from parity.tensors import vectors
from parity.verdict import limit
from reference.microgpt import init_params, init_state
from tests.implementations import DTYPES, IMPLEMENTATIONS
from torch_twin.microgpt import Twin, make

pytestmark = pytest.mark.usefixtures("by_its_run")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(steps=2, config={"n_embd": 8, "n_head": 2})


def tampered(change):
    """A factory of twins whose every step goes through change(step)."""

    class Tampered(Twin):
        def train_step(self, batch):
            return change(super().train_step(batch))

    return lambda config, hyper, dtype="float64": Tampered(config, hyper, dtype)


FORMATS_OF_ADAM = [name for name in DTYPES if name != "float16"]
"""In float16 alone, eps_adam is 0: its weights and moments lie in another format."""


@pytest.mark.parametrize("dtype", FORMATS_OF_ADAM)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_every_order_of_evaluation_is_parity_in_its_format(case, name, dtype):
    result = check(IMPLEMENTATIONS[name], case, dtype=dtype)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.judge.form.name == dtype


@pytest.mark.parametrize("name", ["attention normalised last", "attention from saved outputs"])
def test_gradients_of_scores_may_be_made_from_rounded_outputs(name, monkeypatch):
    """Where a document has one position, the reference's cancel to the bit; theirs, and those of flash attention, do
    not, and are refused without the noise that says so."""
    config = Config(n_layer=3, n_embd=24, n_head=12, block_size=1, vocab_size=7, init_std=0.3)

    def verdicts():
        for seed in (8, 10):
            state = init_state(init_params(config, random.Random(seed)))
            one = Case(config, Hyper(), state, [[6, seed % 6, 6], [6, 6]], batch_size=2, steps=1)
            yield check(lambda *sizes: IMPLEMENTATIONS[name](*sizes, "bfloat16", "float32"), one, modes=["lock-step"])

    assert {result.verdict for result in verdicts()} == {Verdict.PARITY}
    compiled = program(config, 1)
    assert compiled.attention.shape == (config.n_layer * config.n_head, 2 + config.head_dim)
    monkeypatch.setattr(compiled, "attention", compiled.attention[:0])
    refused = next(result for result in verdicts() if not result.verdict.passes)
    assert refused.modes[0].first_divergence.tensor.endswith(("attn_wq", "attn_wk"))


def test_float16_is_judged_by_its_own_floor(case):
    case = replace(case, hyper=replace(case.hyper, eps_adam=1e-3))
    assert check(make, case, dtype="float16").verdict is Verdict.PARITY


def test_an_epsilon_that_float16_cannot_hold_is_precision_loss(case):
    """1e-8 is 0 in float16, and the update of a row without gradient 0/0; in float32 all is well."""
    assert check(make, case, dtype="float16").verdict is Verdict.PRECISION_LOSS


def test_wrong_format_is_refused(case):
    class Pretender(Twin):
        def load(self, state):
            self.dtype = "float32"
            super().load(state)
            self.dtype = "float64"

    result = check(lambda config, hyper: Pretender(config, hyper), case)
    assert result.verdict is Verdict.DIVERGED


@pytest.mark.parametrize("replicas", [8, 64])
@pytest.mark.parametrize("elements", [1, 100_000])
def test_limit_is_the_quantile_of_students_t(replicas, elements):
    expected = stats.t.isf(1e-9 / 2 / elements, replicas - 1)
    assert limit(1e-9, elements, replicas) == pytest.approx(expected, rel=1e-9)


def test_limit_grows_with_what_is_compared_and_with_caution(case):
    strict, lax = (check(make, case, false_alarm=rate).judge.limit for rate in (1e-3, 1e-12))
    few, many = (check(make, replace(case, steps=steps)).judge.limit for steps in (1, 2))
    assert strict < lax
    assert few < many


def test_noise_is_reproducible_and_grows_with_unit_roundoff(case):
    batch = next(case.batches())
    floors = []
    for name in ("float32", "float32", "bfloat16"):
        oracle = Oracle(case.config, case.hyper, FORMATS[name], limit=10.0)
        floors.append(oracle.expect(oracle.start(case.state), batch).sigma)
    once, again, coarse = (step.grads["lm_head"] for step in floors)
    assert once.tobytes() == again.tobytes()
    ratio = np.median(coarse[once > 0] / once[once > 0])
    assert 2**15 < ratio < 2**17


def test_replicas_scatter_around_the_exact_replay(case):
    batch = next(case.batches())
    noise, replay = Noise(case.config, case.hyper, FORMATS["float32"]), Replay(case.config, case.hyper)
    replay.load(case.state)
    start = noise.repeated(vectors(case.config, case.state))
    samples, exact = noise.step(0, start, noise.seeds, batch, None).grads, replay.outcome(batch).grads
    sigma = deviation(samples)
    moved = sigma > 0
    offset = (samples.mean(axis=1) - exact)[moved] / (sigma[moved] / math.sqrt(REPLICAS))
    assert np.abs(offset).max() < 8
    assert np.array_equal(samples[~moved][:, 0], exact[~moved])


@given(
    samples=st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=8),
    scale=st.sampled_from((1.0, 1e-300, 5e-324)),
)
def test_deviation_is_that_of_the_samples(samples, scale):
    scaled = np.array(samples) * scale
    actual = deviation(scaled[None])[0]
    wide = scaled.astype(np.longdouble)
    assert float(actual) == pytest.approx(float(wide.std(ddof=1)), rel=1e-9, abs=1e-323)


def test_equal_samples_have_no_deviation_at_all():
    assert deviation(np.full((1, 64), 0.1))[0] == 0


def test_gradient_of_a_row_never_used_must_be_exactly_zero(case):
    used = {token for batch in case.batches() for tokens in batch for token in tokens}
    unused = next(token for token in range(case.config.vocab_size) if token not in used)

    def change(step):
        step.grads["wte"][unused, 0] = 1e-300
        return step

    result = check(tampered(change), case)
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.index == (unused, 0)
    assert result.modes[0].first_divergence.z == math.inf


@pytest.fixture(scope="module", params=FORMATS_OF_ADAM)
def right(request, case) -> Result:
    """The check of a right answer in a number format."""
    return check(make, case, dtype=request.param, modes=("lock-step",))


@pytest.mark.parametrize("quantity", ["grads", "params", "m", "v"])
def test_power_tells_the_smallest_error_that_is_caught(case, right, quantity):
    """An error of a little more than the stated power is caught, a tenth of it is not."""
    names, dtype = {"grads": "grad", "params": "param"}, right.judge.form.name
    stated = right.modes[0].quantities[names.get(quantity, quantity)]
    worst = stated.power["lm_head"].worst

    def scaled_by(factor):
        def change(step):
            tensors = getattr(step, quantity)
            tensors["lm_head"] = tensors["lm_head"].double() * (1 + factor)
            return step

        return check(tampered(change), replace(case, steps=1), dtype=dtype, modes=("lock-step",))

    assert scaled_by(2 * worst).verdict.exit_status == 1
    assert scaled_by(stated.power["lm_head"].median / 1e3).modes[0].verdict is Verdict.PARITY


def offset_and_back(offset: float):
    """A twin that loses accuracy in its logits by adding a number and taking it away again."""

    class Unstable(Twin):
        def train_step(self, batch):
            step = super().train_step(batch)
            step.logits = [(rows + offset) - offset for rows in step.logits]
            return step

    return lambda config, hyper, dtype="float64": Unstable(config, hyper, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_unstable_algorithm_is_precision_loss(case, dtype):
    result = check(offset_and_back(1e4), case, dtype=dtype)
    assert result.verdict is Verdict.PRECISION_LOSS
    assert result.verdict.exit_status == 1
    assert "unstable" in result.reason


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("factor", [1 + 1e-3, 1 + 1e-12])
def test_a_wrong_function_is_not_mistaken_for_precision_loss(case, dtype, factor):
    def change(step):
        step.logits = [rows.double() * factor for rows in step.logits]
        return step

    expected = Verdict.PARITY if dtype == "float32" and factor < 1 + 1e-9 else Verdict.DIVERGED
    assert check(tampered(change), case, dtype=dtype).verdict is expected


def test_a_one_token_document_does_not_vouch_for_queries_and_keys():
    config = Config(n_embd=4, n_head=2, block_size=2, vocab_size=4)
    state = init_state(init_params(config, random.Random(0)))
    result = check(make, Case(config, Hyper(), state, [[3, 3]], steps=1))
    assert result.verdict is Verdict.PARITY
    blind = result.modes[0].quantities["grad"].blind
    assert {"layer0.attn_wq", "layer0.attn_wk"} <= set(blind)
    assert "zeros" in blind["layer0.attn_wq"]
    assert "lm_head" not in blind


def test_projections_drawn_at_zero_leave_four_of_six_matrices_blind():
    case = Case.from_names(steps=1, preset="microgpt_early")
    blind = check(make, case).modes[0].quantities["grad"].blind
    layer = {name for name in case.config.shapes() if name.startswith("layer0")}
    assert len(layer & set(blind)) == 4


def test_a_subject_that_shows_nothing_but_zeros_where_zeros_are_due_is_inconclusive():
    config = Config(n_embd=4, n_head=2, block_size=2, vocab_size=4)
    zeros = {name: [[0.0] * columns for _ in range(rows)] for name, (rows, columns) in config.shapes().items()}

    class OnlyLogits(Twin):
        def train_step(self, batch):
            step = super().train_step(batch)
            step.loss = step.grads = step.params = step.m = step.v = None
            return step

    result = check(
        lambda config, hyper: OnlyLogits(config, hyper), Case(config, Hyper(), init_state(zeros), [[3, 0, 3]], steps=1)
    )
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.verdict.exit_status == 3
    assert "vacuous" in result.reason


class GateSubject:
    """The reference with one ReLU turned, as rounding may turn it at its kink."""

    dtype = "float32"
    expose_sites = False

    def __init__(self, case, *turned):
        self.case, self.turned = case, turned
        self.oracle = Oracle(case.config, case.hyper, FORMATS["float32"], limit=10.0)

    def load(self, state):
        self.point = self.oracle.start(state)

    def train_step(self, batch):
        replay = Replay(self.case.config, self.case.hyper)
        replay.load(self.point.state(self.case.config))
        natural = replay.outcome(batch).documents[0].decisions()
        turned = {(0, slot): natural[slot] != OPEN for slot in self.turned}
        return self.oracle.exact_step(self.point, batch, turned, sites=self.expose_sites)


def kinked_case(*units: int) -> tuple[Case, list[int], int]:
    """ReLUs whose inputs at the last position are nearly zero; their slots, and that of one far from its kink."""
    config = Config(n_embd=4, n_head=2, block_size=3, vocab_size=4, init_std=0.5)
    params = init_params(config, random.Random(5))
    params = {name: FORMATS["float32"].rounded(matrix).tolist() for name, matrix in params.items()}
    batch = [[3, 0, 1, 3]]
    replay = Replay(config, Hyper())
    for _ in range(3):  # solve for the weights that bring the inputs to zero
        replay.load(init_state(params))
        document = replay.outcome(batch).documents[0]
        norm = document.values[document.program.sites["layer0.mlp.norm"][-1]]
        for unit in units:
            row = params["layer0.mlp_fc1"][unit]
            row[0] -= float(np.dot(row, norm) / norm[0])
            row[0] = float(np.float32(row[0]))
    relus = {int(slot): int(source) for slot, source in document.program.relus}
    pre = document.program.sites["layer0.mlp.pre"][-1]
    slots = {source: slot for slot, source in relus.items()}
    values = document.values[pre]
    far = int(np.argmax(values))
    near = [slots[int(pre[unit])] for unit in units]
    return Case(config, Hyper(), init_state(params), batch, steps=1), near, slots[int(pre[far])]


@pytest.mark.parametrize("sites", [False, True])
def test_a_relu_at_its_kink_may_go_either_way(sites):
    case, (kink,), _ = kinked_case(2)
    for gates in ((), (kink,)):
        result = check(GateSubject(case, *gates), case, modes=("lock-step",), sites=sites)
        assert result.verdict.passes
        assert result.modes[0].near_gates == 1
        assert result.modes[0].turned_gates == len(gates)


@pytest.mark.parametrize("turned", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_of_relus_at_their_kinks_those_are_turned_that_the_subject_turned(turned):
    case, kinks, _ = kinked_case(2, 5, 7)
    result = check(GateSubject(case, *(kinks[number] for number in turned)), case, modes=("lock-step",))
    assert result.verdict.passes, result.reason
    assert (result.modes[0].near_gates, result.modes[0].turned_gates) == (3, len(turned))


def test_a_relu_at_its_kink_may_go_another_way_when_it_is_asked_again():
    case, (kink,), _ = kinked_case(2)

    class OtherwiseAgain(GateSubject):
        def train_step(self, batch):
            step = super().train_step(batch)
            self.turned = (kink,)
            return step

    result = check(OtherwiseAgain(case), case, modes=("lock-step",))
    assert result.verdict.passes, result.reason
    assert result.modes[0].repeatable is False


def test_a_relu_away_from_its_kink_may_not():
    case, (kink,), far = kinked_case(2)
    for gates in ((far,), (kink, far)):
        assert check(GateSubject(case, *gates), case, modes=("lock-step",)).verdict is Verdict.DIVERGED


def test_half_a_slope_at_the_kink_is_refused():
    case, (kink,), _ = kinked_case(2)
    one, other = GateSubject(case), GateSubject(case, kink)

    class Half:
        dtype = "float32"

        def load(self, state):
            one.load(state)
            other.load(state)

        def train_step(self, batch):
            low, high = one.train_step(batch), other.train_step(batch)
            low.grads = {name: (low.grads[name] + high.grads[name]) / 2 for name in low.grads}
            return low

    assert check(Half(), case, modes=("lock-step",)).verdict is Verdict.DIVERGED


def test_free_running_floor_widens_as_rounding_accumulates(case):
    result = check(make, replace(case, steps=2), dtype="float32")
    lock_step, free = (mode.quantities["param"].power["lm_head"] for mode in result.modes[:2])
    assert free.medians[-1] > lock_step.medians[-1]


def test_lr_schedule_and_corrections_are_recorded_from_the_reference():
    early = Case.from_names(steps=4, preset="microgpt_early")
    assert check(make, early).verdict is Verdict.PARITY


def test_noise_reaches_every_site(case):
    oracle = Oracle(case.config, case.hyper, FORMATS["float32"], limit=10.0)
    batch = next(case.batches())
    expectation = oracle.expect(oracle.start(case.state), batch, sites=True)
    step, sigma = expectation.step, expectation.sigma
    pairs = list(paired(0, step, step, sigma, [min(case.config.block_size, len(batch[0]) - 1)]))
    sites = [t for t in pairs if t.keys[0].quantity == "site" and t.keys[0].name != "embedding"]
    assert sites
    assert all((t.sigma > 0).any() for t in sites if (t.expected != 0).any())
    assert program(case.config, 1).sites.keys() <= step.sites.keys() | {"loss"}
    assert torch.isfinite(torch.tensor(sigma.loss))
