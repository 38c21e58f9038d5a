"""Updates that are judged by themselves: a gradient within the noise floor of zero decides their sign."""

import pytest

from parity import Verdict, check
from tests.judging.weak_gradients import Flipped, case_and_weakest
from torch_twin.microgpt import Twin


def test_an_update_that_follows_from_the_subjects_own_gradient_is_accepted():
    case, *place = case_and_weakest()
    result = check(Flipped(case.config, case.hyper, place), case, modes=("lock-step",))
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].own_updates >= 1


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
