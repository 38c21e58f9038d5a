"""A wrong answer that is off by one number is told that number."""

import pytest

from parity import Case, check
from parity.catalogue.mutants import MUTANTS
from parity.judging.causes import OffByAnAmount
from parity.oracle.replay import Replay

TINY = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 3})


class Scaled(Replay):
    def train_step(self, batch):
        step = super().train_step(batch)
        for name in step.grads:
            step.grads[name][:] *= 2
        return step


def found(make):
    result = check(make, TINY, modes="lock-step", probes=False)
    (off,) = [cause for cause in result.modes[0].causes if isinstance(cause, OffByAnAmount)] or [None]
    return off, result.reason


@pytest.mark.parametrize(
    ("make", "amount", "said"),
    [
        (Scaled, 1.0, "the whole gradient is 2 times what is expected"),
        (MUTANTS["logits_scaled"].make, -0.5, "logits are 0.5 times what is expected"),
        (MUTANTS["weight_decay"].make, 0.01, "the update decays the weights, by 0.01 times the rate"),
        (MUTANTS["keys_detached"].make, -1.0, "grad layer0.attn_wk is 0 times what is expected"),
        (MUTANTS["betas_of_pytorch"].make, None, "m is 0.667 times what is expected"),
    ],
)
def test_amount_is_told(make, amount, said):
    off, reason = found(make)
    assert amount is None or off.amount == pytest.approx(amount, rel=1e-6)
    assert f"To within rounding, {said}." in reason


@pytest.mark.parametrize("name", ["gelu", "scores_not_scaled"])
def test_nothing_is_told_where_no_number_explains_it(name):
    off, _ = found(MUTANTS[name].make)
    assert off is None
