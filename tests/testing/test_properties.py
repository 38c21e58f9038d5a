"""Drawn configs, weights, documents and hyper-parameters: the twin against the reference, and what a check catches."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, event, given, note, settings
from hypothesis import strategies as st

from parity import Case, Step, Verdict, check
from parity.errors import UsageError
from parity.oracle.python_reference import Reference
from parity.strategies import cases, configs
from parity.testing import assert_parity
from tests.faults import planted
from torch_twin.microgpt import Twin, make

QUANTITIES = {"loss", "logits", "grad", "m", "v", "param"}

WRONG_BETA2 = ("hyper.beta2 * state.v[name] + (1 - hyper.beta2)", "0.3 * state.v[name] + 0.7")

PHASES = (Phase.generate, Phase.shrink)
"""Without the phase that explains a failure, which takes longer than finding it."""


def describe(case: Case) -> None:
    note(f"{case.config}\n{case.hyper}\nstep {case.state.step}, {case.steps} steps of {case.batch_size}")
    note(f"documents: {case.documents}")
    event(f"n_layer {case.config.n_layer}")
    event("mid-training" if case.state.step else "fresh")


@given(case=cases())
def test_twin_agrees_with_the_reference_at_every_step(case):
    describe(case)
    result = assert_parity(make, case)
    assert result.unchecked == []
    for mode in result.modes:
        assert mode.steps == case.steps
        expected = case.config.num_params() * case.steps
        assert {row.quantity for row in mode.quantities.values()} == QUANTITIES
        assert all(mode.quantities[quantity].compared == expected for quantity in ("grad", "m", "v", "param"))


@given(case=cases(config=configs(max_embd=8, max_block=5), max_steps=1))
def test_twin_agrees_at_every_site_and_its_gradient(case):
    describe(case)
    result = assert_parity(make, case, sites=True)
    assert {"site", "site grad"} <= {row.quantity for row in result.modes[0].quantities.values()}


@pytest.mark.parametrize("make_subject", [Reference, Twin])
@given(case=cases(max_steps=1))
def test_weights_come_back_from_a_step_with_learning_rate_0(make_subject, case):
    describe(case)
    subject = make_subject(case.config, replace(case.hyper, learning_rate=0.0))
    subject.load(case.state)
    actual = subject.train_step(next(case.batches())).params
    assert {name: as_lists(matrix) for name, matrix in actual.items()} == case.state.params


def as_lists(matrix):
    return matrix.tolist() if hasattr(matrix, "tolist") else matrix


class Perturbed(Twin):
    """The twin, but for one element of one answer, which is a millionth off."""

    def __init__(self, config, hyper, step: int, field: str, tensor: str | int | None, index: tuple[int, ...]) -> None:
        super().__init__(config, hyper)
        self.step, self.field, self.tensor, self.index = step, field, tensor, index

    def train_step(self, batch: list[list[int]]) -> Step:
        now = self.state.step
        answer = super().train_step(batch)
        if now != self.step:
            return answer
        if self.field == "loss":
            answer.loss = off_by_a_millionth(answer.loss)
            return answer
        # A copy: what the subject answers must not change the state that it goes on from.
        tensors = getattr(answer, self.field)
        tensors = list(tensors) if self.field == "logits" else dict(tensors)
        tensors[self.tensor] = tensors[self.tensor].clone()
        tensors[self.tensor][self.index] = off_by_a_millionth(tensors[self.tensor][self.index])
        setattr(answer, self.field, tensors)
        return answer


def off_by_a_millionth(x):
    return x + 1e-6 * max(abs(x), 1e-3)


@given(data=st.data())
def test_perturbation_of_one_element_is_caught_and_placed(data):
    # With a larger eps_adam no parameter depends on the rounding of a gradient that is 0 but for rounding.
    case = data.draw(cases(), label="case")
    case = replace(case, hyper=replace(case.hyper, eps_adam=1e-3))
    describe(case)
    step = data.draw(st.integers(0, case.steps - 1), label="step")
    field = data.draw(st.sampled_from(["loss", "logits", "grads", "m", "v", "params"]), label="field")
    if field == "loss":
        tensor, shape = None, ()
    elif field == "logits":
        batch = list(case.batches())[step]
        tensor = data.draw(st.integers(0, case.batch_size - 1), label="document")
        shape = (min(case.config.block_size, len(batch[tensor]) - 1), case.config.vocab_size)
    else:
        tensor = data.draw(st.sampled_from(list(case.config.shapes())), label="tensor")
        shape = case.config.shapes()[tensor]
    index = tuple(data.draw(st.integers(0, size - 1), label="index") for size in shape)
    number = case.state.step + step
    subject = Perturbed(case.config, case.hyper, number, field, tensor, index)

    result = check(subject, case, modes=["lock-step"])

    assert result.verdict is Verdict.DIVERGED
    quantity = {"grads": "grad", "params": "param"}.get(field, field)
    name = {"loss": "loss", "logits": f"document {tensor}"}.get(field, tensor)
    first = result.modes[0].first_divergence
    assert (first.step, first.quantity, first.tensor, first.index) == (number, quantity, name, index)


def test_failing_property_shrinks_and_leaves_one_case_that_repeats_it(tmp_path):
    with planted(WRONG_BETA2) as wrong:

        @settings(max_examples=20, database=None, phases=PHASES)
        @given(case=cases(config=configs(max_embd=4)))
        def inner(case):
            assert_parity(wrong, case, store=tmp_path)

        with pytest.raises(AssertionError) as caught:
            inner()

        message = str(caught.value)
        assert message.startswith("DIVERGED: step ")
        assert message.splitlines()[-1].startswith("Repeat with: ")
        (stored,) = tmp_path.iterdir()
        assert shlex.quote(str(stored)) in message
        case = Case.load(stored)
        assert check(wrong, case).reason in message

    config = case.config
    assert (config.n_layer, config.n_embd, config.n_head, config.block_size, config.vocab_size) == (1, 1, 1, 1, 2)
    assert config.activation == "relu"
    assert case.documents == [[1, 1]]
    assert (case.steps, case.batch_size) == (1, 1)


def test_failure_names_the_command_that_repeats_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("port.py").write_text("from torch_twin.microgpt import make\ndef broken(config, hyper): raise OSError('no')\n")
    with pytest.raises(AssertionError, match=r"^ERROR: .*OSError: no") as caught:
        assert_parity("port.py:broken", Case.from_names(steps=1), modes=["lock-step"])
    command = str(caught.value).rpartition("Repeat with: ")[2]
    assert re.fullmatch(r"parity replay \.parity/[0-9a-f]{12}\.json --mode lock-step port\.py:broken", command)
    assert_parity("port.py:make", Case.load(Path(shlex.split(command)[2])), modes=["lock-step"])
    assert Path(".parity/.gitignore").read_text().splitlines()[-1] == "*"


def test_subject_is_found_beside_the_test_or_above_wherever_it_is_run(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    for folder in ("tests/deep", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "port.py").write_text("from torch_twin.microgpt import make\n")
    test = tmp_path / "tests" / "deep" / "test_port.py"
    code = "assert_parity(name, case, modes=['lock-step'])"
    names = {"assert_parity": assert_parity, "case": Case.from_names(steps=1, config={"n_embd": 4})}
    monkeypatch.chdir(tmp_path / "elsewhere")
    exec(compile(code, str(test), "exec"), {**names, "name": "port.py:make"})
    with pytest.raises(UsageError) as caught:
        exec(compile(code, str(test), "exec"), {**names, "name": "gone.py:make"})
    folders = [tmp_path / "elsewhere", tmp_path / "tests" / "deep", tmp_path / "tests", tmp_path]
    assert str(caught.value) == f"There is no file gone.py; looked in {', '.join(map(str, folders))}."


def test_check_that_decides_nothing_is_no_pass(tmp_path):
    class Silent(Twin):
        def train_step(self, batch):
            return Step()

    with pytest.raises(AssertionError, match=r"^INCONCLUSIVE: "):
        assert_parity(lambda config, hyper: Silent(config, hyper), Case.from_names(steps=1), store=tmp_path)
