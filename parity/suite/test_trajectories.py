"""Training: several steps, each from what the one before left."""

import pytest
from hypothesis import given

from parity.case import Case
from parity.subjects.attributes import single_steps
from parity.suite.bound import Bound
from parity.suite.laws import QUANTITIES, SMALL_MODELS, agrees, asking
from parity.testing.strategies import cases


@given(case=cases(config=SMALL_MODELS, max_steps=5))
def test_several_steps(parity_subject: Bound, case: Case) -> None:
    """Both sides start equal and are never set to each other's state again; rounding alone drives them apart."""
    with asking(parity_subject, case) as questions:
        if said := single_steps(questions.subject):
            pytest.skip(f"The subject says {said} = True.")
    agrees(parity_subject, case, *QUANTITIES, mode="free-running")
