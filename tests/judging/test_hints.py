"""What a failing check hints at: a likely cause, in one sentence, beside a verdict that stays."""

import inspect
import json

import numpy as np
import pytest

from parity import Case, Step, Verdict, check
from parity.cli.help_pages import page
from parity.judging.causes import NarrowRounding, OtherRevision
from parity.judging.computation_order import sites_after
from parity.judging.sentences import sentence
from reference.config import PRESETS
from tests.implementations import Vectorised
from torch_twin.microgpt import Twin

CASE = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 3})


def answering(change):
    """The twin, with something done to its answer in lists."""

    class Answering(Twin):
        def train_step(self, batch) -> Step:
            """A step."""
            step = super().train_step(batch)
            lists = {name: [row.tolist() for row in grad] for name, grad in step.grads.items()}
            return change(Step(step.loss, [rows.tolist() for rows in step.logits], lists))

    return Answering


def stringified(tree):
    """What JavaScript's JSON.stringify makes of typed arrays in place of rows."""
    if isinstance(tree, dict):
        return {name: stringified(branch) for name, branch in tree.items()}
    typed = tree and not isinstance(tree[0], list)
    return {str(i): x for i, x in enumerate(tree)} if typed else [stringified(branch) for branch in tree]


def reason_of(change) -> str:
    result = check(answering(change), CASE, modes="lock-step", probes=False)
    assert result.verdict is Verdict.ERROR
    return result.reason


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda step: Step(grads=stringified(step.grads)), "The subject's grads, wte, are"),
        (lambda step: Step(logits=stringified(step.logits)), "The subject's logits, document 0, are"),
        (lambda step: Step(logits={"0": step.logits[0]}), "The subject's logits are"),
        (lambda step: Step(grads={"0": 0.0, "1": 0.0}), "The subject's grads are"),
        (lambda step: Step(grads={**step.grads, "wpe": {"0": 0.0}}), "The subject's grads, wpe, are"),
    ],
)
def test_typed_arrays_are_told_by_their_objects(change, what):
    reason = reason_of(change)
    assert reason.startswith(f'{what} objects with the names "0", "1" and so on in place of lists, as JavaScript')
    assert "Array.from(...)" in reason


@pytest.mark.parametrize("convert", [list, np.array], ids=["lists", "arrays"])
@pytest.mark.parametrize("pick", [lambda logits: logits[0], lambda logits: logits[0][0]], ids=["a matrix", "a row"])
def test_missing_level_of_brackets_is_told(convert, pick):
    assert "a matrix (n, vocab_size) for each document, of which there is 1 here: a level of brackets is missing" in (
        reason_of(lambda step: Step(logits=convert(pick(step.logits))))
    )


def of_another_size(step: Step) -> Step:
    return Step(grads={name: [[0.0] * 16] * 16 for name in step.grads})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_another_size, 'One that has but one size says so with sizes = "given".'),
        (
            lambda step: Step(logits=[[[0.0] * 5] * 3]),
            "Does the subject take its sizes from the config that it is made",
        ),
        (
            lambda step: Step(logits=[step.logits[0][:-1]]),
            "A document has n = min(block_size, ",
        ),
        (
            lambda step: Step(grads={**step.grads, "wte": list(map(list, zip(*step.grads["wte"], strict=True)))}),
            "It is transposed: a matrix w is applied to a vector x as w·x.",
        ),
    ],
    ids=["all 16 by 16", "another vocabulary", "a position too few", "transposed"],
)
def test_another_shape_has_a_likely_cause(change, said):
    assert said in reason_of(change)


class HiddenFloat32(Vectorised):
    """Computes in float32 and says nothing; what it shows is no number of float32."""

    def __init__(self, config, hyper) -> None:
        super().__init__(config, hyper, "float32")
        self.of_harness()

    def of_harness(self) -> None:
        """Seem to compute in float64."""
        self.dtype = self.storage = "float64"

    def load(self, state) -> None:
        """Take a state."""
        self.storage = "float32"
        super().load(state)
        self.of_harness()

    def train_step(self, batch) -> Step:
        """A step."""
        self.dtype = self.storage = "float32"
        step = super().train_step(batch)
        self.of_harness()
        return Step(step.loss * (1 + 1e-12), [rows.double() * (1 + 1e-12) for rows in step.logits])


def test_rounding_of_float32_in_what_is_asked_for_float64_is_hinted_at():
    result = check(HiddenFloat32, CASE, modes="lock-step", probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert any(isinstance(cause, NarrowRounding) for cause in result.modes[0].causes)
    assert "Rounding in float32 would explain it (largest z " in result.reason
    assert "--dtype float32" in result.reason


@pytest.mark.parametrize("factor", [1 + 1e-13, 1.01], ids=["too small for it", "too large for it"])
def test_other_errors_are_not_taken_for_rounding_of_float32(factor):
    def scaled(step):
        return Step(logits=[[[factor * x for x in row] for row in rows] for rows in step.logits])

    result = check(answering(scaled), CASE, modes="lock-step", probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert "float32" not in result.reason


def test_unknown_sites_are_told_before_anybody_counts_what_they_hold():
    def change(step):
        return Step(step.loss, sites={"layer0.attention.q": [], "norm": []})

    result = check(answering(change), CASE, modes="lock-step", probes=False, sites=True)
    assert "The subject's sites have the unknown layer0.attention.q (is it layer0.attn.q?)." in result.reason


@pytest.mark.parametrize("text", [page("protocol"), inspect.getdoc(Step)], ids=["help of the protocol", "help of Step"])
def test_every_site_is_listed(text):
    words = set(text.replace(",", " ").replace(":", " ").replace(";", " ").split())
    ends = {word for word in words if word.startswith(".")}
    for site in sites_after(1):
        assert site in words or "." + site.rpartition(".")[2] in ends, site


def test_hints_are_in_the_json():
    result = check(HiddenFloat32, CASE, modes="lock-step", probes=False)
    assert "--dtype float32" in json.dumps(result.to_dict())


@pytest.mark.parametrize(("command", "said"), [(True, '"unsupported": true'), (False, "raises NotImplementedError")])
def test_subject_without_an_activation_is_told_how_to_say_so_in_its_own_words(command, said):
    config, hyper = PRESETS["microgpt_early"]
    cause = OtherRevision.of(config, hyper, command)
    assert said in sentence(cause)
    assert sentence(cause).startswith("This case has the activation relu2 and the schedule cosine, which")
