"""One update by Adam, from fresh moments and in mid-training."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from parity.case import Case
from parity.judging.own_updates import ORDER
from parity.oracle.replay import flat
from parity.suite.bound import Bound
from parity.suite.laws import SMALL, agrees, asking, of
from parity.testing.strategies import cases


@pytest.mark.parametrize("quantity", ["m", "v", "param"])
@given(case=cases(config=SMALL, max_steps=1))
def test_update(parity_subject: Bound, quantity: str, case: Case) -> None:
    """m, v and the parameters are what the reference's Adam makes of the subject's own gradients.

    A wrong gradient is no news here, unless the subject exposes none: then the reference's take their place.
    """
    with asking(parity_subject, case) as questions:
        answer = questions.step(next(case.batches()))
        grads = {tensor: t.actual for (kind, tensor), t in answer.items() if kind == "grad"}
        if grads:
            state = questions.run.in_format(case.state)
            previous = np.array([flat(case.config, part) for part in (state.params, state.m, state.v)])
            after, spread = questions.run.floor.own_update(state.step, previous, flat(case.config, grads))
            part = ORDER.index(quantity)
            pairs = [
                replace(t, expected=after[part][t.tensor], sigma=spread[part][t.tensor])
                for t in of(answer, quantity).values()
            ]
            questions.judge("Adam on the subject's own gradients", pairs)
            return
    agrees(parity_subject, case, quantity)
