"""Cases that campaigns ended at: what was refused though it was right, and the largest z of right subjects.

Each is a file of extremes/, named for what it is, with the subject and the format in which it is extreme.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from parity import Case, check
from parity.campaign.item import CALIBRATE, CHECK, Item
from parity.campaign.outcome import OUT_OF_RANGE
from parity.campaign.working import checked_outcome
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
    assert {file.stem for file in EXTREMES.glob("*.json")} == {*FOUND, "one_number_near_0", "beyond_float16"}


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


class Wrong:
    """The subject of the test above, with a mistake in the loss."""

    def __init__(self, config, hyper):
        self.right, self.dtype = IMPLEMENTATIONS["all positions at once"](config, hyper, "bfloat16"), "bfloat16"

    def load(self, state):
        self.right.load(state)

    def train_step(self, batch):
        step = self.right.train_step(batch)
        step.loss = step.loss * 1.5
        return step


def test_a_mistake_beside_it_is_refused():
    assert check(Wrong, case("one_number_near_0"), probes=False).verdict is Verdict.DIVERGED


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # float32, in which it is looked at, has none
def test_what_a_format_cannot_hold_is_no_false_alarm_of_a_right_subject():
    """A gradient of 3e-229 is 0 in float16; refused where users check, who are to know, and not counted here."""
    make, drawn = partial(IMPLEMENTATIONS["permuted weights"], storage="float32"), case("beyond_float16")
    result = check(make, drawn, dtype="float16", probes=False)
    assert result.verdict is Verdict.PRECISION_LOSS
    item = Item(CALIBRATE, "s", "float16", "edges", 0, 20, False, 60.0, "", "")
    found = checked_outcome(item, result, drawn)
    assert OUT_OF_RANGE in {one.verdict for one in found.comparisons}
    assert not found.signature
    assert checked_outcome(replace(item, kind=CHECK), result, drawn).signature


class Loose(fused_attention.FusedAttention):
    """Attention whose weights do not add up to one, by a hundred times what a kernel without weights may do."""

    def attention(self, x, w, mask=None):
        return super().attention(x, w, mask) * (1 + 100 * 40 * 2.0**-24)


def test_what_attention_without_weights_may_do_hides_no_other_mistake():
    result = check(Loose, case("equal_scores_of_40"), dtype="float32", probes=False)
    assert not result.verdict.passes
