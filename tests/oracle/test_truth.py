"""The certified enclosure: narrow, right, and able to say which side is wrong."""

import random
from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest

from parity import Case, Config, Hyper, Verdict, check
from parity.errors import NoExpectation
from parity.judging import checking
from parity.judging.probes import CHOSEN
from parity.judging.true_exchange import TruthJudge
from parity.number_formats import FORMATS
from parity.oracle.oracle import Oracle
from parity.oracle.truth import Ball, Truth
from reference.microgpt import Value, init_params, init_state
from torch_twin.microgpt import Twin, make


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(steps=1, config={"n_embd": 8, "n_head": 2})


def enclosure_of(case: Case):
    oracle = Oracle(case.config, case.hyper, FORMATS["float64"], limit=10.0)
    batch = next(case.batches())
    sigma = oracle.expect(oracle.start(case.state), batch).sigma
    return Truth(case.config, case.hyper).enclosure(case.state, batch, sigma), sigma


def test_enclosure_of_a_default_step_is_narrow():
    enclosure, _ = enclosure_of(Case.from_names(steps=1))
    radii = [r.max() for part in ("grads", "m", "v", "params") for r in getattr(enclosure.radius, part).values()]
    assert max(*radii, enclosure.radius.loss) < 1e-30


def test_reference_lies_within_its_noise_floor_of_the_truth(case):
    result = check(make, case, truth=True)
    truth = result.modes[0].truth
    assert result.verdict is Verdict.PARITY
    assert set(truth.reference) == set(truth.subject) == {"loss", "logits", "grad", "m", "v", "param"}
    assert max(truth.reference.values()) < 4
    assert "agrees with both" in truth.sentence(result.judge.limit)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_subject_in_a_small_format_is_held_to_its_own_floor(case, dtype):
    result = check(make, case, truth=True, dtype=dtype)
    assert result.verdict is Verdict.PARITY
    assert max(result.modes[0].truth.reference.values()) < 4


def test_wrong_subject_is_named():
    class Wrong(Twin):
        def train_step(self, batch):
            step = super().train_step(batch)
            step.grads["wpe"] = step.grads["wpe"] * (1 + 1e-6)
            return step

    result = check(lambda config, hyper: Wrong(config, hyper), Case.from_names(steps=1), truth=True)
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.tensor == "wpe"
    assert result.modes[0].truth.sentence(result.judge.limit).startswith("The subject is wrong")


def test_wrong_reference_is_named(case, monkeypatch):
    """A reference that is a little wrong: the truth, computed on balls, does not follow it."""
    right = Oracle.expect

    def wrong(self, *question, **options):
        expectation = right(self, *question, **options)
        grads = dict(expectation.step.grads)
        grads["wpe"] = grads["wpe"] * (1 + 1e-9)
        return replace(expectation, step=replace(expectation.step, grads=grads))

    monkeypatch.setattr(Oracle, "expect", wrong)
    result = check(make, case, truth=True)
    assert result.verdict is Verdict.PARITY
    assert result.modes[0].truth.sentence(result.judge.limit).startswith("The reference is wrong here")


def test_truth_that_neither_side_follows_is_no_parity(monkeypatch):
    """Subject and reference agree with each other, and not with a truth of twice the learning rate."""
    case = CHOSEN["large"][0].case()

    def of_another_rate(case):
        return TruthJudge(replace(case, hyper=replace(case.hyper, learning_rate=2 * case.hyper.learning_rate)))

    monkeypatch.setattr(checking, "_truth_judge", of_another_rate)
    result = check(make, case, truth=True)
    assert not result.verdict.passes, result.reason
    assert result.verdict is not Verdict.ERROR


def underflowing_case() -> Case:
    """A target whose probability underflows to 0 in floats, and is e^-2000 or so in real numbers."""
    config = Config(n_embd=2, n_head=1, block_size=2, vocab_size=3)
    params = init_params(config, random.Random(2))
    params["lm_head"] = [[x * 4e4 for x in row] for row in params["lm_head"]]
    for document in ([2, 0, 2], [2, 1, 2], [2, 0, 1, 2], [2, 1, 0, 2]):
        case = Case(config, Hyper(), init_state(params), [document], steps=1)
        oracle = Oracle(config, case.hyper, FORMATS["float64"], limit=10.0)
        try:
            oracle.expect(oracle.start(case.state), [document])
        except NoExpectation:
            return case
    raise AssertionError("none of the documents underflows")


def stable(config, hyper):
    """A twin whose loss goes through log_softmax, which does not underflow."""
    from tests.implementations import Vectorised

    return Vectorised(config, hyper)


def test_truth_decides_where_the_reference_has_no_answer():
    case = underflowing_case()
    assert check(stable, case).verdict is Verdict.INCONCLUSIVE
    result = check(stable, case, truth=True)
    assert result.verdict is Verdict.PARITY
    assert result.modes[0].truth.sentence(result.judge.limit).startswith("The reference is wrong here")
    assert "math domain error" in result.modes[0].truth.failures[0]


def test_truth_refuses_an_infinite_loss_where_the_reference_has_no_answer():
    result = check(make, underflowing_case(), truth=True)
    assert result.verdict is Verdict.DIVERGED


def test_a_relu_exactly_at_its_kink_stays_ambiguous(case):
    truth = Truth(Config(n_embd=2, n_head=1, block_size=1, vocab_size=2), Hyper())
    state = init_state(init_params(truth.config, random.Random(0)))
    # Two weights that cancel exactly in real numbers and not on balls: (x/3)·3 - x.
    third = flint.arb(1) / 3
    zero = Ball(third * 3 - 1)
    assert zero.arb.contains(0)
    with pytest.raises(ArithmeticError, match="within"):
        Value(zero).relu()
    state.params["layer0.mlp_fc1"] = [[0.0, 0.0] for _ in range(8)]
    enclosure = truth.enclosure(state, [[1, 1]], None)
    assert np.all(enclosure.radius.grads["layer0.mlp_fc2"] == 0)


def test_balls_contain_the_exact_rational_value():
    x, y = Fraction(1, 3), Fraction(-7, 11)
    exact = (x * y + x) * x**2 / y
    ball = (Ball(flint.arb(1) / 3) * (flint.arb(-7) / 11) + flint.arb(1) / 3) * Ball(flint.arb(1) / 3) ** 2
    ball = ball / (flint.arb(-7) / 11)
    assert ball.arb.contains(flint.arb(exact.numerator) / exact.denominator)


def test_truth_needs_lock_step(case):
    assert [mode.mode for mode in check(make, case, truth=True).modes] == ["lock-step"]
