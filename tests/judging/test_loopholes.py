"""Ways in which a wrong subject might slip through, each of them shut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from parity import Case, Step, Verdict, check
from parity.errors import UsageError
from tests.faults import planted
from torch_twin.microgpt import Twin, make

pytestmark = pytest.mark.usefixtures("by_its_run")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(steps=3, config={"n_embd": 8, "n_head": 2})


def changing(change):
    """A factory of twins whose steps go through change(step, number)."""

    class Changing(Twin):
        def train_step(self, batch):
            number = self.state.step
            return change(super().train_step(batch), number)

    return lambda config, hyper, dtype="float64": Changing(config, hyper, dtype)


def test_a_divergence_stays_found_when_the_reference_fails_later(case):
    case = replace(case, hyper=replace(case.hyper, learning_rate=3e4))

    def double(step, number):
        step.grads["lm_head"] = step.grads["lm_head"] * 2
        return step

    result = check(changing(double), case)
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.tensor == "lm_head"


@pytest.mark.parametrize("kept", [("loss",), ("loss", "logits", "grads")])
def test_what_was_exposed_once_must_stay_exposed(case, kept):
    def fade(step, number):
        return step if number == 0 else Step(**{name: getattr(step, name) for name in kept})

    result = check(changing(fade), case)
    assert result.verdict is Verdict.ERROR
    assert "at some steps and not at others" in result.reason


@pytest.mark.parametrize(("dtype", "decay"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 5e-2)])
def test_weights_that_decay_are_caught_by_rows_that_are_never_used(case, dtype, decay):
    def shrink(step, number):
        step.params = {name: p * (1 - decay) for name, p in step.params.items()}
        return step

    result = check(changing(shrink), case, dtype=dtype)
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.quantity == "param"
    assert result.modes[0].quantities["param"].exact > 0


@pytest.mark.parametrize("threshold", [0.01, 0.02])
def test_a_relu_with_a_dead_band_is_not_explained_by_kinks(threshold):
    """Every gate that it closes lies near its kink; that they all close is not rounding."""
    case = Case.from_names(steps=3)
    with planted(("x = x.relu()", f"x = x * (x > {threshold})")) as faulty:
        assert check(faulty, case, dtype="bfloat16", modes=("lock-step",)).verdict.exit_status == 1


def test_a_bug_that_grows_is_not_precision_loss(case):
    def grow(step, number):
        step.grads["lm_head"] = step.grads["lm_head"] * (1 + 3e-5 if number == 0 else 2)
        return step

    assert check(changing(grow), case, dtype="float32").verdict is Verdict.DIVERGED


def test_options_for_a_factory_are_not_dropped(case):
    with pytest.raises(UsageError, match="made already"):
        check(make(case.config, case.hyper), case, dtype="float32")


def test_truth_refuses_what_it_cannot_judge(case):
    for options in ({"sites": True}, {"modes": ("free-running",)}):
        with pytest.raises(UsageError, match="The truth judges"):
            check(make, case, truth=True, **options)


@pytest.mark.parametrize("beta", ["beta1", "beta2"])
def test_a_beta_of_zero_has_a_finite_noise_floor(case, beta):
    assert check(make, replace(case, hyper=replace(case.hyper, **{beta: 0.0}))).verdict is Verdict.PARITY


def test_a_subject_of_dataclasses_with_postponed_annotations_can_be_imported(case, tmp_path):
    path = tmp_path / "port.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from torch_twin.microgpt import Twin\n"
        "@dataclass\nclass Options:\n    size: int = 1\n"
        "def make(config, hyper):\n    return Twin(config, hyper)\n"
    )
    assert check(f"{path}:make", case).verdict is Verdict.PARITY


@pytest.mark.parametrize("factory", ["builtins:int", "builtins:dict"])
def test_a_factory_without_a_signature_is_bad_usage(case, factory):
    with pytest.raises(UsageError, match="dtype"):
        check(factory, case, dtype="float32")


def test_an_instance_without_load_is_an_error(case):
    class Half:
        def train_step(self, batch):
            return Step(loss=0.0)

    assert check(Half(), case).verdict is Verdict.ERROR


def test_a_dtype_that_raises_is_an_error(case):
    class Sulky(Twin):
        @property
        def dtype(self):
            raise RuntimeError("not today")

        @dtype.setter
        def dtype(self, value):
            pass

    result = check(Sulky(case.config, case.hyper), case)
    assert result.verdict is Verdict.ERROR
    assert "not today" in result.reason


def test_zero_gradients_everywhere_do_not_pass(case):
    def silence(step, number):
        step.grads = {name: torch.zeros_like(grad) for name, grad in step.grads.items()}
        return step

    assert check(changing(silence), case).verdict is Verdict.DIVERGED


def test_permuted_rows_do_not_pass(case):
    def permute(step, number):
        step.grads["lm_head"] = step.grads["lm_head"].flip(0)
        return step

    first = check(changing(permute), case).modes[0].first_divergence
    assert first.tensor == "lm_head"
    assert np.isfinite(first.expected)
