"""What no element shows, and all of a tensor together do: it is seen along a direction, in no right answer."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from parity import Case, Hyper, Verdict, check
from parity.judging.causes import OutsideTogether
from parity.oracle.replay import Replay

CASE = Case.from_names(steps=8, config={"n_embd": 8, "n_head": 2, "block_size": 6})


class Short(Replay):
    """The reference's bits, as answers that are rounded to a format."""

    dtype, storage = "bfloat16", "float32"
    off: ClassVar[dict[str, float]] = {}

    def train_step(self, batch):
        was, step = self.tensors, super().train_step(batch)
        for name in step.grads:
            step.grads[name][:] *= self.off.get(name, 1.0)
        for part, quantity in enumerate(("params", "m", "v")):
            after = getattr(step, quantity).vector
            after[:] = was[part] + (after - was[part]) * self.off.get(quantity, 1.0)
        return replace(step, logits=[rows * self.off.get("logits", 1.0) for rows in map(np.asarray, step.logits)])


def checked(case=CASE, **off):
    subject = Short(case.config, case.hyper)
    subject.off = off
    return check(subject, case, modes="lock-step")


def along(result, quantity, what="scale", tensor=""):
    (found,) = [
        x
        for x in result.modes[0].evidence
        if (x.direction.quantity, x.direction.what) == (quantity, what) and x.direction.tensor == tensor
    ]
    return found


def test_right_answer_has_nothing_of_any_direction():
    result = checked()
    assert result.verdict is Verdict.PARITY
    assert not result.modes[0].beyond
    assert {x.direction.quantity for x in result.modes[0].evidence} == {"logits", "loss", "grad", "param", "m", "v"}
    written = result.to_dict()["modes"][0]["evidence"]
    assert [x["amount"] for x in written] == [x.amount for x in result.modes[0].evidence]


@pytest.mark.parametrize(
    ("off", "quantity", "tensor", "amount"),
    [
        ({"layer0.mlp_fc2": 1.05}, "grad", "layer0.mlp_fc2", 0.05),
        ({"logits": 0.97}, "logits", "", -0.03),
    ],
)
def test_tensor_that_is_off_as_a_whole_is_seen_though_no_element_is(off, quantity, tensor, amount):
    result = checked(**off)
    mode = result.modes[0]
    assert result.verdict is Verdict.DIVERGED
    assert isinstance(mode.causes[0], OutsideTogether)
    assert all(not row.outside for row in mode.quantities.values())
    found = along(result, quantity, tensor=tensor)
    assert found.beyond
    assert found.amount == pytest.approx(amount, rel=0.3)
    assert "all of them together are" in result.reason


def test_steps_that_repeat_each_other_count_as_one():
    hyper = Hyper(learning_rate=1e-12)
    again = replace(CASE, hyper=hyper, documents=CASE.documents[:1])
    one, many = (along(checked(replace(again, steps=n)), "logits").sd for n in (1, 8))
    others = along(checked(replace(CASE, hyper=hyper)), "logits").sd
    assert many > 0.8 * one > 1.5 * others


def test_evidence_adds_up_over_documents():
    few, many = (along(checked(replace(CASE, steps=n)), "grad", tensor="lm_head") for n in (1, 8))
    assert many.sd < 0.6 * few.sd
    assert many.allowed > many.shared > 0
