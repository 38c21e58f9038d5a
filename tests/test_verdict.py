"""Verdicts: which pass, and what a process ends with."""

import pytest

from parity.verdict import Verdict


@pytest.mark.parametrize(
    ("verdict", "passes", "status"),
    [
        (Verdict.IDENTICAL, True, 0),
        (Verdict.PARITY, True, 0),
        (Verdict.INCONCLUSIVE, False, 3),
        (Verdict.PRECISION_LOSS, False, 1),
        (Verdict.DIVERGED, False, 1),
        (Verdict.ERROR, False, 1),
    ],
)
def test_only_the_same_function_passes(verdict, passes, status):
    assert (verdict.passes, verdict.exit_status) == (passes, status)
