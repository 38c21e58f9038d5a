"""The check of trainings: what passes, what does not, and where it begins."""

import json

import pytest
import torch

from parity.errors import UsageError
from parity.subjects.training_factories import is_training_factory
from parity.training import Training
from parity.training.checking import Against, TrainingOptions, check_training
from parity.training.gates import Gates
from parity.training.observation import same_numbers
from parity.training.other import OtherHere
from parity.training.running import Factory
from parity.verdict import Verdict
from tests.training import tiny


def check(make, *, against=None, names=None, replicas=8, steps=1, modes=("lock-step",), **options):
    other = None
    if against is not None:
        of = Factory(against)
        other = Against("other", lambda n, sites: OtherHere(of, replicas=n, sites=sites), names or {})
    told = TrainingOptions(steps=steps, modes=modes, replicas=replicas)
    return check_training("subject", Factory(make, **options), told, against=other)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_training_is_what_its_operations_compute(dtype):
    result = check(tiny.make, steps=2, modes=("lock-step", "free-running"), dtype=dtype)
    assert result.verdict is Verdict.PARITY, result.reason
    quantities = {quantity for mode in result.modes for quantity in mode.quantities}
    assert quantities == {"site", "output", "loss", "site grad", "grad", "step", "exp_avg", "exp_avg_sq", "param"}
    json.dumps(result.to_dict(), allow_nan=False)


def test_eps_that_bfloat16_hides_shows_in_exact_arithmetic_and_is_placed():
    result = check(tiny.other_eps, against=tiny.autocast)
    assert result.verdict is Verdict.DIVERGED
    assert str(result.deciding.begins).startswith("site norm (LayerNorm)")
    assert result.modes[0].wrong == []  # its own run is what its operations compute
    assert json.loads(json.dumps(result.to_dict()))["link"]["wrong"][0]["tensor"] == "site norm"


def test_same_function_in_another_format_passes_but_for_the_precision_that_it_loses():
    wider = check(tiny.make, against=tiny.autocast)
    assert wider.verdict is Verdict.PARITY
    narrower = check(tiny.autocast, against=tiny.make)
    assert narrower.verdict is Verdict.PRECISION_LOSS
    assert "times as wide" in narrower.reason


def test_gradient_that_is_scaled_is_said_to_be():
    result = check(tiny.steeper, against=tiny.make)
    assert result.verdict is Verdict.DIVERGED
    assert str(result.deciding.begins).startswith("grad last.weight: ")
    assert result.deciding.begins.scale == pytest.approx(2)


def test_other_names_and_a_transposed_matrix_are_mapped():
    result = check(tiny.renamed, against=tiny.make, names=tiny.RENAMED, steps=2)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.link.quantities["grad"].compared == 2 * check(tiny.make).modes[0].quantities["grad"].compared


def test_relus_decided_by_rounding_are_taken_as_the_program_decided_them(monkeypatch):
    result = check(tiny.relus)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.gates_turned > 0
    monkeypatch.setattr(Gates, "replayed", lambda self, noise: None)
    assert check(tiny.relus).verdict is Verdict.DIVERGED


def test_relu_that_rounding_does_not_explain_is_refused():
    class Leaky(torch.nn.Module):
        """Lets pass, where it runs by itself, what lies far below zero."""

        def forward(self, x):
            return torch.relu(x + (0.01 if type(x) is torch.Tensor else 0.0))

    def make():
        torch.manual_seed(3)
        return tiny.training(tiny.MLP(width=64, activation=Leaky), of=lambda: tiny.batches(2, 100))

    assert check(make).verdict is Verdict.DIVERGED


def test_kernel_that_computes_something_else_than_its_operations_is_refused():
    class Wrong(torch.nn.Module):
        """What a broken kernel does: on numbers as they are, not on shadows."""

        def forward(self, x):
            return torch.tanh(x) * (1.001 if type(x) is torch.Tensor else 1.0)

    def make(dtype="float32"):
        torch.manual_seed(3)
        form = getattr(torch, dtype)
        return tiny.training(tiny.MLP(activation=Wrong).to(form), of=lambda: tiny.batches(dtype=form))

    result = check(make)
    assert result.verdict is Verdict.DIVERGED
    assert str(result.deciding.begins).startswith("site activation (Wrong)")


def test_unstable_kernel_loses_precision():
    class Unstable(torch.nn.Module):
        """Sums that cancel, in the format's own precision; on shadows as they ought to be."""

        def forward(self, x):
            return (x + 3000) - 3000 if type(x) is torch.Tensor else x * 1

    def make(dtype="float32"):
        torch.manual_seed(3)
        form = getattr(torch, dtype)
        return tiny.training(tiny.MLP(activation=Unstable).to(form), of=lambda: tiny.batches(dtype=form))

    assert check(make).verdict is Verdict.PRECISION_LOSS


def test_what_was_not_exercised_is_said():
    result = check(tiny.make)
    assert any("--steps" in phrase for phrase in result.not_exercised)
    assert any("free-running" in phrase for phrase in result.not_exercised)
    assert any("--against" in phrase for phrase in result.not_exercised)


def test_gradients_that_are_never_zeroed_show_in_the_second_step():
    def make():
        made = tiny.make()

        def step(model, optimizer, batch):
            found = tiny.loss(model, batch)
            found.backward()
            optimizer.step()
            return found

        made.loss, made.step = None, step
        return made

    result = check(make, against=tiny.make, steps=2)
    assert result.verdict is Verdict.DIVERGED
    assert result.link.first_divergence.step == 1
    assert str(result.deciding.begins).startswith("grad ")


def compiled(model, backend, dtype="float32"):
    form = getattr(torch, dtype)
    return tiny.training(torch.compile(model.to(form), backend=backend), of=lambda: tiny.batches(dtype=form))


def test_compiled_code_is_what_is_tested():
    def wrong(graph, inputs):
        return lambda *arguments: [x * 1.01 for x in graph(*arguments)]

    def right(graph, inputs):
        return lambda *arguments: [x * 1.0 for x in graph(*arguments)]

    def make(backend):
        torch.compiler.reset()
        torch.manual_seed(3)
        return compiled(tiny.MLP(activation=torch.nn.GELU), backend)

    assert check(lambda: make(wrong)).verdict is Verdict.DIVERGED
    assert check(lambda: make(right)).verdict is Verdict.PARITY


def test_relus_of_compiled_code_that_shows_none_are_undecided(monkeypatch):
    monkeypatch.setattr("parity.training.running.same_bits", lambda *seen: False)
    monkeypatch.setattr("parity.training.comparison.limit", lambda *given: 1.0)  # so that something is outside
    result = check(tiny.relus)
    assert result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert "does not show how it decided" in result.reason
    assert any(phrase.startswith("what modules give") for phrase in result.not_exercised)


def test_what_nothing_came_of_is_said():
    def make():
        made = tiny.make()
        made.model.unused = torch.nn.Linear(2, 2)
        made.optimizer.add_param_group({"params": list(made.model.unused.parameters())})
        made.clip_grad_norm = 1e3
        made.schedule = torch.optim.lr_scheduler.ConstantLR(made.optimizer)
        return made

    said = " ".join(check(make).not_exercised)
    assert "clipping: the norm of the gradients never exceeded 1000 (at most " in said
    assert "the schedule after 1 step" in said
    assert "parameters that get no gradient: unused.bias, unused.weight" in said

    def clipped():
        made = tiny.make()
        made.clip_grad_norm = 1e-3
        return made

    assert "clipping" not in " ".join(check(clipped).not_exercised)


def test_schedule_that_is_not_given_is_asked_for():
    def make():
        made = tiny.make()
        torch.optim.lr_scheduler.ConstantLR(made.optimizer)
        return Training(made.model, made.optimizer, made.loss, made.batches)

    with pytest.raises(UsageError, match="give it as schedule="):
        check(make)


def test_factory_without_defaults_is_given_the_usual_ones():
    assert is_training_factory(lambda dtype, device: None)
    assert check(lambda dtype, device: tiny.make(dtype, device)).verdict is Verdict.PARITY


def test_other_training_that_would_not_be_compared_is_refused():
    with pytest.raises(UsageError, match="lock-step"):
        check(tiny.make, against=tiny.make, modes=("free-running",))


def test_what_a_wrong_answer_would_pass_in_decides_nothing(monkeypatch):
    monkeypatch.setattr("parity.training.comparison.moderated", lambda floor, *others: floor + 1e9)
    assert check(tiny.make).verdict is Verdict.INCONCLUSIVE


def test_nan_is_no_zero():
    nothing = torch.zeros(2)
    assert same_numbers(nothing / 0, nothing / 0)
    assert not same_numbers(nothing / 0, nothing)
