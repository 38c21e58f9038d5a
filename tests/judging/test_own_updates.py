"""Updates that are judged by themselves: a gradient within the noise floor of zero decides their sign."""

import random
from dataclasses import replace

import pytest

from parity import Case, Config, Hyper, Verdict, check
from parity.judging import exchange
from reference.microgpt import init_params, init_state
from tests.judging.weak_gradients import Flipped, case_and_weakest
from torch_twin.microgpt import Twin, make


def test_an_update_that_follows_from_the_subjects_own_gradient_is_accepted():
    case, *place = case_and_weakest()
    result = check(Flipped(case.config, case.hyper, place), case, modes=("lock-step",))
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].own_updates == 1


def test_the_same_update_is_refused_where_the_gradient_does_not_call_for_it():
    case, *place = case_and_weakest()
    result = check(Flipped(case.config, case.hyper, place, consistent=False), case, modes=("lock-step",))
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].quantities["param"].outside >= 1


@pytest.mark.parametrize("quantity", ["m", "v", "params"])
def test_a_wrong_update_stays_wrong_when_judged_by_itself(quantity):
    case, *_ = case_and_weakest()

    class Wrong(Twin):
        def train_step(self, batch):
            step = super().train_step(batch)
            tensors = getattr(step, quantity)
            tensors["wpe"] = tensors["wpe"] * 1.5
            return step

    assert check(lambda config, hyper: Wrong(config, hyper, "bfloat16"), case).verdict is Verdict.DIVERGED


@pytest.mark.parametrize(("n_layer", "seed"), [(2, 32), (4, 11)])
def test_run_goes_on_from_the_signs_that_rounding_chose(n_layer, seed, monkeypatch):
    """A gradient within its floor of zero vanishes in bfloat16, and with it an update; the norm of a vector of one
    element turns its weight's place near zero into gradients that no replica has."""
    config = Config(n_layer=n_layer, n_embd=1, n_head=1, block_size=6, vocab_size=6, init_std=0.04)
    state = init_state(init_params(config, random.Random(seed)))
    case = Case(config, Hyper(), state, [[5, 0, 1, 2, 5], [5, 3, 0, 4, 1, 5]], batch_size=2, steps=3)
    assert check(make, case, dtype="bfloat16").verdict is Verdict.PARITY
    monkeypatch.setattr(exchange, "gone_on_from", lambda oracle, judge, expectation, *answered: expectation.after)
    assert check(make, case, dtype="bfloat16", modes=["free-running"]).verdict.exit_status == 1


def test_run_does_not_go_on_from_an_update_that_is_not_adams():
    """The sign of an update that rounding decides is turned, the gradient's is not: every step is within its floor."""
    case, *place = case_and_weakest()
    longer = replace(case, steps=2)
    result = check(Flipped(case.config, case.hyper, place, consistent=False), longer, modes=("free-running",))
    assert result.verdict is Verdict.DIVERGED
