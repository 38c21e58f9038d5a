"""The backward pass: the gradient of the loss with respect to every weight."""

from hypothesis import given

from parity.case import Case
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, agrees
from parity.testing.strategies import cases


@given(case=cases(config=SMALL_MODELS, max_steps=1))
def test_gradients(parity_subject: Bound, case: Case) -> None:
    """The gradient of every weight is the reference's, and 0 where the weight is not used."""
    agrees(parity_subject, case, "grad")
