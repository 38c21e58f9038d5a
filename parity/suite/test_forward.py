"""The forward pass: tokens and weights in, logits and loss out."""

from hypothesis import given

from parity.case import Case
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, agrees
from parity.testing.strategies import cases


@given(case=cases(config=SMALL_MODELS, max_steps=1))
def test_logits(parity_subject: Bound, case: Case) -> None:
    """Every logit at every position of every document is the reference's."""
    agrees(parity_subject, case, "logits")


@given(case=cases(config=SMALL_MODELS, max_steps=1))
def test_loss(parity_subject: Bound, case: Case) -> None:
    """The loss is the mean over the documents of the mean over their positions of -log p(next token)."""
    agrees(parity_subject, case, "loss")
