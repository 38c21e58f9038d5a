"""Subjects that expose some tensors and not others, or no update: what is exposed is checked, and the rest is named."""

import io
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from parity import Case, Config, Hyper, Verdict, check
from parity.cli.check_report import check_report
from parity.cli.check_tables import power
from parity.cli.terminal import console
from parity.errors import UsageError
from parity.judging.exchange import Run
from parity.judging.judge import Judge
from parity.judging.own_updates import with_own_updates
from parity.judging.probes import probes
from parity.number_formats import FORMATS
from parity.quantities import in_short
from parity.tensors import elements_of
from reference.config import Step
from reference.microgpt import init_params, init_state
from tests.judging.weak_gradients import Flipped, case_and_weakest
from tests.served import Served
from torch_twin.microgpt import Twin

FIELDS = {"grads": "grad", "m": "m", "v": "v", "params": "param"}


@pytest.fixture(scope="module")
def case() -> Case:
    config = Config(n_layer=1, n_embd=4, n_head=2, block_size=3, vocab_size=4, init_std=0.3)
    state = init_state(init_params(config, random.Random(5)))
    return Case(config, Hyper(num_steps=10), state, [[3, 0, 1, 3], [3, 2, 3]], steps=2)


def answering(change):
    """A factory of twins whose steps go through change(step, number of the step)."""

    class Answering(Twin):
        def train_step(self, batch):
            number = self.state.step
            return change(super().train_step(batch), number)

    return lambda config, hyper, dtype="float64": Answering(config, hyper, dtype)


def without(*names, fields=tuple(FIELDS)):
    """A change that leaves tensors out of fields of a step."""

    def change(step, number):
        kept = {f: {n: t for n, t in getattr(step, f).items() if n not in names} for f in fields}
        return replace(step, **kept)

    return change


@pytest.mark.parametrize("field", FIELDS)
def test_tensor_left_out_of_one_field_is_unchecked_there_alone(case, field):
    result = check(answering(without("wpe", fields=[field])), case)
    assert result.verdict is Verdict.PARITY
    assert [mode.mode for mode in result.modes] == ["lock-step", "free-running"]
    assert result.unchecked == [f"{FIELDS[field]} wpe"]
    whole, kept = (result.modes[1].quantities[quantity].power for quantity in ("logits", FIELDS[field]))
    assert list(whole) == ["logits"]
    assert "wpe" not in kept
    assert len(kept) == len(case.config.shapes()) - 1


def test_power_is_shown_of_what_one_quantity_alone_exposes(case):
    for field in FIELDS:
        (mode,) = check(answering(without("wpe", fields=[field])), case, modes=["lock-step"]).modes
        table = power(mode)
        assert {row[0] for row in table.rows} == set(case.config.shapes())
        (row,) = [row for row in table.rows if row[0] == "wpe"]
        assert [column for column, cell in zip(table.columns, row) if cell == "-"] == [FIELDS[field]]
        assert "wpe" not in mode.quantities[FIELDS[field]].power


def test_tensors_left_out_of_all_fields_are_named_in_json_and_in_short(case):
    result = check(answering(without("wte", "lm_head")), case)
    assert result.verdict is Verdict.PARITY
    assert json.loads(json.dumps(result.to_dict()))["unchecked"] == [
        f"{quantity} {name}" for quantity in ("grad", "m", "v", "param") for name in ("wte", "lm_head")
    ]
    assert in_short(result.unchecked) == "grad, m, v, param of wte, lm_head"
    assert in_short(["loss", "site grad", "grad wpe"]) == "loss, site grad; grad of wpe"


def test_fault_in_a_tensor_is_caught_unless_that_tensor_is_left_out(case):
    def wrong(step, number):
        step.grads["layer0.attn_wo"] = step.grads["layer0.attn_wo"] * 1.001
        return step

    for names, verdict in ((["wpe"], Verdict.DIVERGED), (["layer0.attn_wo"], Verdict.PARITY)):
        found = check(answering(lambda step, number, out=names: without(*out)(wrong(step, number), number)), case)
        assert found.verdict is verdict, found.reason


@pytest.mark.parametrize("left", ["params", "m"])
def test_weights_that_are_not_carried_on_are_caught_though_they_are_left_out(case, left):
    class Forgets(Twin):
        """One whose wte stays as it was loaded, which only what follows from it shows."""

        def train_step(self, batch):
            before = getattr(self.state, left)["wte"]
            step = super().train_step(batch)
            getattr(self.state, left)["wte"] = before
            return without("wte")(step, 0)

    result = check(Forgets, replace(case, steps=3, documents=[[3, 0, 1, 3]]))
    assert [mode.verdict for mode in result.modes] == ([Verdict.PARITY, Verdict.DIVERGED])


@pytest.mark.parametrize("field", [*FIELDS, "sites"])
def test_misspelled_tensor_is_an_error_and_not_one_left_out(case, field):
    def misspell(step, number):
        tensors = dict(getattr(step, field) or {"embedding": [[0.0] * 4] * 3})
        name = "wpe" if field != "sites" else "embedding"
        tensors[name[:-1] + "ee"] = tensors.pop(name)
        return replace(step, **{field: tensors})

    result = check(answering(misspell), case, sites=field == "sites")
    assert result.verdict is Verdict.ERROR
    meant = "embeddinee (is it embedding?)" if field == "sites" else "wpee (is it wpe?)"
    assert result.reason.startswith(f"The subject's {field} have the unknown {meant}.")


def test_field_without_a_tensor_is_an_error(case):
    result = check(answering(without(*case.config.shapes(), fields=["m"])), case)
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("The subject's m hold no tensor; a field of which nothing is exposed is left out.")


def test_documents_cannot_be_left_out_of_the_logits(case):
    result = check(answering(lambda step, number: replace(step, logits=[])), case)
    assert result.verdict is Verdict.ERROR
    assert "lack" in result.reason


def test_tensor_left_out_at_one_step_alone_is_an_error(case):
    def change(step, number):
        return without("wpe", fields=["grads"])(step, number) if number else step

    result = check(answering(change), case)
    assert result.verdict is Verdict.ERROR
    assert result.reason == "The subject exposes grad wpe at some steps and not at others (step 1)."


def test_tensors_left_out_of_a_probe_alone_are_named():
    def first_layer_alone(step, number):
        return without(*(name for name in step.params if name.startswith("layer1")))(step, number)

    result = check(answering(first_layer_alone), Case.from_names(steps=1, config={"n_embd": 4}), probes=True)
    assert result.verdict is Verdict.PARITY
    assert result.unchecked == []
    named = next(phrase for phrase in result.not_exercised if "two-layers" in phrase)
    assert named.startswith("grad, m, v, param of layer1.attn_wq, ")
    assert named.endswith(" (which the subject does not expose in the probe two-layers, three-layers)")


def test_update_from_the_subjects_own_gradient_is_accepted_where_other_tensors_are_left_out():
    case, name, *place = case_and_weakest()
    others = [other for other in case.config.shapes() if other != name]

    class Partial(Flipped):
        def train_step(self, batch):
            return without(others[0], others[-1])(super().train_step(batch), 0)

    for consistent, verdict in ((True, Verdict.PARITY), (False, Verdict.DIVERGED)):
        subject = Partial(case.config, case.hyper, (name, *place), consistent)
        result = check(subject, case, modes="lock-step")
        assert result.verdict is verdict, result.reason


@pytest.mark.parametrize(("unknown", "explained"), [("", True), ("another", True), ("its own", False)])
def test_update_of_what_was_not_exposed_before_is_not_explained(unknown, explained):
    case, name, *place = case_and_weakest()
    subject = Flipped(case.config, case.hyper, (name, *place))
    judge = Judge.of_elements(100, 1e-9, FORMATS["bfloat16"])
    run = Run(case, subject, judge)
    state = run.rounded(case.state)
    run.load(state)
    expectation = run.oracle.expect(run.oracle.start(state), case.documents)
    pairs = run.compared(expectation, run.answer(0, case.documents))
    before = expectation.before.exact.copy()
    others = tuple(other for other in case.config.shapes() if other != name)
    before[:, elements_of(case.config, {"": (), "another": others, "its own": (name,)}[unknown])] = np.nan
    updated, _, elements = with_own_updates(run.oracle, judge, expectation, pairs, before)
    assert (elements > 0) is explained
    assert np.isfinite(updated.after.exact).all()


class OtherOptimizer(Twin):
    """A twin with gradients, and SGD."""

    def train_step(self, batch):
        before = self.state
        step = super().train_step(batch)
        self.state = replace(before, params={n: p - 0.1 * step.grads[n] for n, p in before.params.items()})
        return Step(loss=step.loss, logits=step.logits, grads=step.grads)


def test_subject_with_another_optimizer_is_checked_without_its_update(case):
    class Declared(OtherOptimizer):
        without_update = True

    result = check(Declared, case)
    assert result.verdict is Verdict.PARITY
    assert [mode.mode for mode in result.modes] == ["lock-step"]
    assert result.unchecked == ["m", "v", "param"]
    assert any(phrase.startswith("updates, and steps one after another") for phrase in result.not_exercised)
    with pytest.raises(UsageError, match=r"says without_update = True; it can be checked in lock-step alone"):
        check(Declared, case, modes="free-running")


def test_wrong_gradient_of_a_subject_without_update_is_caught(case):
    class Wrong(OtherOptimizer):
        without_update = True

        def train_step(self, batch):
            step = super().train_step(batch)
            step.grads["wpe"] = step.grads["wpe"] * 1.001
            return step

    result = check(Wrong, case)
    assert result.verdict is Verdict.DIVERGED
    assert "grad wpe" in result.reason


def test_another_optimizer_that_is_not_declared_is_told_how(case):
    result = check(OtherOptimizer, case)
    assert [mode.verdict for mode in result.modes] == [Verdict.PARITY, Verdict.DIVERGED]
    assert "says so with an attribute without_update = True" in result.reason


def test_subject_without_update_that_exposes_one_is_an_error(case):
    class Both(Twin):
        without_update = True

    result = check(Both, case)
    assert result.verdict is Verdict.ERROR
    assert result.reason == "The subject exposes m after an update, and says without_update = True."


class Tied(Twin):
    """A twin whose lm_head is its wte."""

    tied_head = True

    def load(self, state):
        super().load(replace(state, params=state.params | {"lm_head": state.params["wte"]}))

    def train_step(self, batch):
        return without("wte", "lm_head")(super().train_step(batch), 0)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_tied_head_is_checked_from_states_in_which_it_is_tied(dtype):
    result = check(Tied, Case.from_names(steps=3, config={"n_embd": 4}), probes=True, dtype=dtype)
    assert result.verdict is Verdict.PARITY, result.reason
    assert [mode.mode for mode in result.modes] == ["lock-step", *(["exact arithmetic"] if dtype == "bfloat16" else [])]
    assert in_short(result.unchecked) == "grad, m, v, param of wte, lm_head"
    assert any(phrase.startswith("lm_head and wte apart") for phrase in result.not_exercised)
    assert len([found for found in result.probes if found.verdict is Verdict.PARITY]) == len(probes(dtype))


def test_what_a_tied_head_and_a_missing_update_leave_out_is_both_said(case):
    class Both(Tied):
        without_update = True

        def train_step(self, batch):
            step = super().train_step(batch)
            return Step(loss=step.loss, logits=step.logits, grads=step.grads)

    said = " ".join(check(Both, case).not_exercised)
    assert "lm_head and wte apart" in said
    assert "(the subject says that it has none)" in said


def test_fault_of_a_tied_head_is_caught(case):
    class Scaled(Tied):
        """One that scales the embedding, as some do whose head is tied."""

        def load(self, state):
            scaled = [[1.01 * x for x in row] for row in state.params["wte"]]
            Twin.load(self, replace(state, params=state.params | {"wte": scaled, "lm_head": state.params["wte"]}))

    assert check(Scaled, case).verdict is Verdict.DIVERGED


def test_tied_head_that_is_not_declared_diverges(case):
    class Undeclared(Tied):
        tied_head = False

    assert check(Undeclared, case).verdict is Verdict.DIVERGED


def test_tied_head_that_exposes_what_it_shares_is_an_error(case):
    class Whole(Tied):
        def train_step(self, batch):
            return Twin.train_step(self, batch)

    assert check(Whole, case).reason.startswith(
        "The subject exposes grad lm_head, and says tied_head = True: what is shared is left out."
    )


PORT = """
from dataclasses import replace
from reference.config import Step
from torch_twin.microgpt import Twin

class Port(Twin):
    not_exercised = ["padding"]
    without_update = True
    def train_step(self, batch):
        self.not_exercised = ["padding", "known after a step"]
        step = super().train_step(batch)
        del step.grads["wpe"]
        return Step(loss=step.loss, grads=step.grads)

def make(config, hyper):
    return Port(config, hyper)
"""


def printed_by(result) -> str:
    terminal = console()
    terminal.file = io.StringIO()
    terminal.print(check_report(result, "documents"))
    return " ".join(terminal.file.getvalue().split())


def test_served_subject_says_what_it_leaves_out(tmp_path, case):
    (tmp_path / "port.py").write_text(PORT)
    result = check(Served(f"{tmp_path}/port.py:make"), case)
    assert [mode.mode for mode in result.modes] == ["lock-step"]
    printed = printed_by(result)
    assert "so not checked: logits, m, v, param; grad of wpe" in printed
    assert "- padding - known after a step - updates, and steps one after another" in printed
