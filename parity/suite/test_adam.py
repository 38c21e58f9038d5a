"""One update by Adam, from fresh moments and in mid-training."""

import numpy as np
import pytest
from hypothesis import given

from parity.case import Case
from parity.oracle.spread import deviation
from parity.quantities import STATE
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, agrees, asking, of
from parity.tensors import TensorViews, elements_of, flat
from parity.testing.strategies import cases


@pytest.mark.parametrize("quantity", ["m", "v", "param"])
@given(case=cases(config=SMALL_MODELS, max_steps=1))
def test_update(parity_subject: Bound, quantity: str, case: Case) -> None:
    """m, v and the parameters are what the reference's Adam makes of the subject's own gradients.

    A wrong gradient is no news here, unless the subject exposes none: then the reference's take their place. Of a
    subject that exposes some gradients, what they make is judged, and nothing else.
    """
    with asking(parity_subject, case) as questions:
        answer = questions.step(next(case.batches()))
        grads = {key.name: t.actual for key, t in of(answer, "grad").items()}
        if grads:
            expectation = questions.expected(next(case.batches()))
            before, grad = expectation.before, flat(case.config, expectation.step.grads).copy()
            grad[elements_of(case.config, tuple(grads))] = np.concatenate(list(grads.values()))
            own, samples = questions.run.oracle.own_updates(before.number, before.exact, grad)
            sigma = np.array([deviation(replicas) for replicas in samples])
            part = STATE.index(quantity)
            after, spread = (TensorViews(case.config, vectors[part]) for vectors in (own, sigma))
            pairs = [
                t.with_sides(expected=after[key.name].ravel(), sigma=spread[key.name].ravel())
                for key, t in of(answer, quantity).items()
                if key.name in grads
            ]
            questions.judge("Adam on the subject's own gradients", pairs)
            return
    agrees(parity_subject, case, quantity)
