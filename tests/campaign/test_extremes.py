"""Cases that campaigns ended at: what was refused though it was right, and the largest z of right subjects.

Each is a file of extremes/, named for what it is, with the subject and the format in which it is extreme.
"""

from pathlib import Path

import pytest

from parity import Case, check
from parity.oracle.replay import program
from parity.verdict import Verdict
from tests.implementations import IMPLEMENTATIONS
from torch_twin import fused_attention

EXTREMES = Path(__file__).with_name("extremes")
FUSED = "torch_twin.fused_attention:make"
FOUND = {
    "equal_scores_of_40": (FUSED, "float32"),
    "equal_scores_of_40_in_two_layers": (FUSED, "float32"),
}
"""By file, the subject and the format."""


def case(name: str) -> Case:
    return Case.load(EXTREMES / f"{name}.json")


def test_every_case_is_asked():
    assert {file.stem for file in EXTREMES.glob("*.json")} == {*FOUND, "one_number_near_0"}


@pytest.mark.parametrize("name", FOUND)
def test_right_subjects_pass_at_the_extremes(name):
    subject, dtype = FOUND[name]
    result = check(subject, case(name), dtype=dtype, probes=False)
    assert result.verdict.passes, result.reason


def test_they_are_refused_without_the_noise_that_says_so(monkeypatch):
    name = "equal_scores_of_40_in_two_layers"
    subject, dtype = FOUND[name]
    compiled = program(case(name).config, 3)
    monkeypatch.setattr(compiled, "heads", compiled.heads[:0])
    result = check(subject, case(name), dtype=dtype, probes=False)
    assert result.modes[0].first_divergence.tensor.endswith("attn_wv")


def test_a_position_of_one_number_near_0_is_not_blamed():
    """Its norm is 1 or -1, as rounding decides: free-running in bfloat16 nobody knows."""
    make = IMPLEMENTATIONS["all positions at once"]
    result = check(make, case("one_number_near_0"), dtype="bfloat16", probes=False)
    lock_step, free_running, exact = result.modes
    assert lock_step.verdict.passes
    assert exact.verdict.passes
    assert free_running.verdict is Verdict.INCONCLUSIVE
    assert "the sign of a position's only number" in free_running.reason


class Loose(fused_attention.FusedAttention):
    """Attention whose weights do not add up to one, by a hundred times what a kernel without weights may do."""

    def attention(self, x, w, mask=None):
        return super().attention(x, w, mask) * (1 + 100 * 40 * 2.0**-24)


def test_what_attention_without_weights_may_do_hides_no_other_mistake():
    result = check(Loose, case("equal_scores_of_40"), dtype="float32", probes=False)
    assert not result.verdict.passes
