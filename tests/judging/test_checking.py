"""What a check does with subjects of every kind, broken ones most of all."""

import json
import math
import random
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from parity import Case, Config, Hyper, State, Step, Verdict, check
from parity.errors import NoExpectation, UsageError
from parity.judging.exchange import Run
from parity.oracle.python_reference import Reference
from reference.microgpt import init_params, init_state
from torch_twin.microgpt import Twin, make

FIELDS = ("loss", "logits", "grads", "m", "v", "params")
QUANTITIES = {"loss": "loss", "logits": "logits", "grads": "grad", "m": "m", "v": "v", "params": "param"}


@pytest.fixture(scope="module")
def case() -> Case:
    config = Config(n_layer=1, n_embd=4, n_head=2, block_size=3, vocab_size=4, init_std=0.3)
    state = init_state(init_params(config, random.Random(5)))
    return Case(config, Hyper(num_steps=10), state, [[3, 0, 1, 3], [3, 2, 3], [3, 1, 1, 0, 3]], batch_size=2, steps=2)


def answering(change):
    """A factory of twins whose answers go through change(step), which returns what the subject then answers."""

    class Answering(Twin):
        def train_step(self, batch):
            return change(super().train_step(batch))

    return lambda config, hyper: Answering(config, hyper)


def converted(convert):
    """A change that converts every value of an answer."""

    def change(step: Step) -> Step:
        step.loss = convert(torch.tensor(step.loss, dtype=torch.float64))
        step.logits = [convert(matrix) for matrix in step.logits]
        for field in ("grads", "m", "v", "params"):
            setattr(step, field, {name: convert(matrix) for name, matrix in getattr(step, field).items()})
        return step

    return change


def with_field(field, change):
    """A change of one field of an answer."""

    def changed(step: Step) -> Step:
        setattr(step, field, change(getattr(step, field)))
        return step

    return changed


def with_wte(change):
    """A change of the gradient of wte."""
    return with_field("grads", lambda grads: grads | {"wte": change(grads["wte"])})


def test_reference_itself_is_identical(case):
    for subject in ("parity.oracle.python_reference:Reference", Reference(case.config, case.hyper)):
        result = check(subject, case, sites=True)
        assert result.verdict is Verdict.IDENTICAL
        assert result.unchecked == []
        assert [mode.verdict for mode in result.modes] == [Verdict.IDENTICAL, Verdict.IDENTICAL]


def test_twin_has_parity_and_every_quantity_is_compared(case):
    result = check(make, case)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL)
    positions = [min(3, len(tokens) - 1) for batch in case.batches() for tokens in batch]
    for mode in result.modes:
        compared = {row.quantity: row.compared for row in mode.quantities.values()}
        weights = case.config.num_params() * case.steps
        expected = {"loss": case.steps, "logits": sum(positions) * case.config.vocab_size}
        assert compared == expected | dict.fromkeys(("grad", "m", "v", "param"), weights)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", FIELDS)
def test_number_that_is_not_finite_is_a_divergence(case, field, number):
    def spoil(value):
        if field == "loss":
            return number
        tensors = list(value) if field == "logits" else dict(value)
        key = 1 if field == "logits" else "layer0.attn_wo"
        tensors[key] = tensors[key].clone()
        tensors[key][0, 1] = number
        return tensors

    result = check(answering(with_field(field, spoil)), case)
    assert result.verdict is Verdict.DIVERGED
    first = result.modes[0].first_divergence
    assert first.quantity == QUANTITIES[field]
    if field != "loss":
        assert first.index == (0, 1)
        assert first.tensor == ("document 1" if field == "logits" else "layer0.attn_wo")


def test_nan_at_the_second_step_is_a_divergence_at_the_second_step(case):
    class Late(Twin):
        def train_step(self, batch):
            late = self.state.step == 1
            answer = super().train_step(batch)
            return replace(answer, loss=math.nan) if late else answer

    first = check(Late(case.config, case.hyper), case).modes[0].first_divergence
    assert (first.step, first.quantity) == (1, "loss")


@pytest.mark.parametrize(
    "change",
    [
        with_wte(lambda wte: wte.T[:, :-1]),
        with_wte(lambda wte: wte[:-1]),
        with_wte(lambda wte: wte.flatten()),
        with_wte(lambda wte: 0.0),
        with_wte(lambda wte: [[0.0, 0.0], [0.0]]),
        with_wte(lambda wte: [["0.0"] * 4] * 4),
        with_wte(lambda wte: [[None] * 4] * 4),
        with_wte(lambda wte: [[{}] * 4] * 4),
        with_wte(lambda wte: None),
        with_wte(lambda wte: "gradients"),
        with_wte(lambda wte: wte.to(torch.complex128)),
        with_wte(lambda wte: object()),
        with_field("grads", lambda grads: {name.replace("wpe", "wep"): grads[name] for name in grads}),
        with_field("grads", lambda grads: grads | {"bias": grads["wpe"]}),
        with_field("grads", lambda grads: grads | {7: grads["wpe"]}),
        with_field("grads", lambda grads: {}),
        with_field("grads", lambda grads: list(grads.values())),
        with_field("grads", lambda grads: 1.0),
        with_field("params", lambda params: "params"),
        with_field("loss", lambda loss: "2.5"),
        with_field("loss", lambda loss: [loss, loss]),
        with_field("loss", lambda loss: {}),
        with_field("logits", lambda logits: logits[:-1]),
        with_field("logits", lambda logits: [*logits, logits[0]]),
        with_field("logits", lambda logits: []),
        with_field("logits", lambda logits: 3.0),
        with_field("logits", lambda logits: [rows[:-1] for rows in logits]),
        lambda step: 2.5,
        lambda step: "step",
        lambda step: vars(step),
        lambda step: None,
    ],
)
def test_answer_that_cannot_be_compared_is_the_subjects_error(case, change):
    result = check(answering(change), case)
    assert result.verdict is Verdict.ERROR
    assert result.verdict.exit_status == 1
    assert result.reason.endswith(".")
    assert "\n" not in result.reason
    assert "Traceback" not in result.reason


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (with_wte(lambda wte: wte[:-1]), "wte"),
        (with_wte(lambda wte: "gradients"), "wte"),
        (with_field("grads", lambda grads: {name.replace("wpe", "wep"): grads[name] for name in grads}), "wpe"),
        (with_field("grads", lambda grads: grads | {"bias": grads["wpe"]}), "bias"),
        (with_field("logits", lambda logits: [rows[:-1] for rows in logits]), "logits"),
    ],
)
def test_error_names_what_is_wrong_with_the_answer(case, change, name):
    assert name in check(answering(change), case).reason


def test_empty_answer_is_inconclusive(case):
    result = check(answering(lambda step: Step()), case)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.verdict.exit_status == 3
    assert set(result.unchecked) == set(QUANTITIES.values())


@pytest.mark.parametrize("exposed", FIELDS)
def test_what_the_subject_does_not_expose_is_listed_as_unchecked(case, exposed):
    result = check(answering(lambda step: Step(**{exposed: getattr(step, exposed)})), case)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL)
    assert set(result.unchecked) == set(QUANTITIES.values()) - {QUANTITIES[exposed]}


def test_partial_subject_that_is_wrong_is_caught(case):
    result = check(answering(lambda step: Step(loss=step.loss * 1.001)), case)
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.quantity == "loss"


@pytest.mark.parametrize(
    "convert",
    [
        lambda tensor: tensor,
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.requires_grad_(),
        lambda tensor: list(tensor) if tensor.dim() else tensor,
        lambda tensor: tuple(map(tuple, tensor.tolist())) if tensor.dim() else tensor.item(),
        lambda tensor: np.array(tensor.numpy(), order="F"),
        lambda tensor: np.longdouble(tensor.numpy()),
    ],
    ids=["torch", "numpy", "lists", "requires grad", "list of tensors", "tuples", "Fortran order", "long double"],
)
def test_values_of_every_kind_are_read(case, convert):
    result = check(answering(converted(convert)), case)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL), result.reason
    assert result.unchecked == []


def test_float32_subject_has_parity_in_float32(case):
    result = check(make, case, dtype="float32")
    assert result.to_dict()["dtype"] == "float32"
    assert result.verdict is Verdict.PARITY


def test_float32_subject_that_calls_itself_float64_diverges(case):
    class Boastful:
        dtype = "float64"

        def __init__(self, config, hyper):
            twin = Twin(config, hyper, "float32")
            self.load, self.train_step = twin.load, twin.train_step

    assert check(Boastful(case.config, case.hyper), case).verdict in (Verdict.DIVERGED, Verdict.PRECISION_LOSS)


def raising(error):
    def function(*arguments):
        raise error

    return function


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("wte"), SystemExit(0), MemoryError()])
@pytest.mark.parametrize("place", ["make", "load", "train_step"])
def test_subject_that_raises_is_an_error_with_its_cause(case, place, error):
    def factory(config, hyper):
        if place == "make":
            raise error
        subject = Twin(config, hyper)
        setattr(subject, place, raising(error))
        return subject

    result = check(factory, case)
    assert result.verdict is Verdict.ERROR
    assert type(error).__name__ in result.reason
    assert str(error) in result.reason


def test_subject_that_exits_is_an_error(case):
    result = check(answering(lambda step: sys.exit("done")), case)
    assert result.verdict is Verdict.ERROR
    assert "SystemExit" in result.reason


def test_failure_keeps_what_was_compared_before_it(case):
    class Late(Twin):
        def train_step(self, batch):
            if self.state.step == 1:
                raise RuntimeError("too late")
            return super().train_step(batch)

    result = check(Late(case.config, case.hyper), case)
    assert result.verdict is Verdict.ERROR
    assert result.modes[0].steps == 1
    assert "step 1" in result.reason


@pytest.mark.parametrize("made", [None, 3, object(), Step()])
def test_factory_that_makes_no_subject_is_an_error(case, made):
    result = check(lambda config, hyper: made, case)
    assert result.verdict is Verdict.ERROR
    assert "load" in result.reason


def test_factory_that_takes_other_arguments_is_an_error(case):
    assert check(lambda config: None, case).verdict is Verdict.ERROR


def test_class_serves_as_a_factory(case):
    for subject in (Twin, Reference):
        assert check(subject, case).verdict in (Verdict.PARITY, Verdict.IDENTICAL)


def test_subject_with_an_unknown_dtype_is_an_error(case):
    def factory(config, hyper):
        subject = Twin(config, hyper)
        subject.dtype = "float7"
        return subject

    result = check(factory, case)
    assert result.verdict is Verdict.ERROR
    assert "float7" in result.reason


class Vandal(Twin):
    """A twin that answers rightly and then overwrites all that it was given."""

    def load(self, state: State) -> None:
        super().load(state)
        for tensors in (state.params, state.m, state.v):
            for matrix in tensors.values():
                matrix[0][0] = math.nan
                matrix.pop()
            tensors.clear()
        state.step = 10**6


def test_subject_cannot_disturb_the_reference_or_the_case(case):
    before = case.to_json()
    result = check(Vandal(case.config, case.hyper), case)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL)
    assert case.to_json() == before


@pytest.mark.parametrize("change", [list.clear, list.reverse, lambda batch: batch[0].pop()])
def test_subject_that_changes_the_documents_is_an_error(case, change):
    class Changing(Twin):
        def train_step(self, batch):
            answer = super().train_step(batch)
            change(batch)
            return answer

    before = case.to_json()
    result = check(Changing(case.config, case.hyper), case)
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("The subject's train_step changed the documents that it was given, in step 0.")
    assert case.to_json() == before


AGAIN = "a second time, from the same state, the subject answers something else"


def test_subject_that_loads_only_once_is_told_so(case):
    class LoadsOnce(Twin):
        def load(self, state):
            if not hasattr(self, "state"):
                super().load(state)

    result = check(LoadsOnce, case, modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert AGAIN in result.reason


def test_subject_that_keeps_its_moments_is_found_out_in_a_single_step(case):
    class KeepsMoments(Twin):
        def load(self, state):
            kept = getattr(self, "state", None)
            super().load(state)
            if kept:
                self.state.m = kept.m

    result = check(KeepsMoments, replace(case, steps=1), modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("Asked about step 0 " + AGAIN)
    assert result.modes[0].repeatable is False


def test_second_answer_is_judged_itself(case):
    """Every second answer to the same question is wrong; a third one would be right again."""
    asked = []

    class Alternating(Twin):
        def train_step(self, batch):
            asked.append(self.state.step)
            step = super().train_step(batch)
            return replace(step, loss=3 * step.loss) if asked.count(asked[-1]) % 2 == 0 else step

    result = check(Alternating, replace(case, steps=1), modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert AGAIN in result.reason


def test_second_answer_without_a_right_one_is_inconclusive(case, monkeypatch):
    def no_answer(run, exchange, *, explain):
        raise NoExpectation("The gates of this answer were not found.")

    monkeypatch.setattr(Run, "ask_again", no_answer)
    result = check(make, replace(case, steps=1), modes=["lock-step"])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "The gates of this answer were not found." in result.reason


def test_subject_that_rolls_dice_is_told_so(case):
    rng = random.Random(0)

    def dropout(grads):
        return {name: matrix * rng.choice((0.9, 1.1)) for name, matrix in grads.items()}

    result = check(answering(with_field("grads", dropout)), case, modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert "is all randomness off?" in result.reason


def test_answers_that_differ_in_their_last_bits_only_are_noted_and_pass(case):
    calls = iter(range(100))

    def jitter(loss):
        return float(np.nextafter(loss, math.inf)) if next(calls) % 2 else loss

    result = check(answering(with_field("loss", jitter)), replace(case, steps=1), modes=["lock-step"])
    assert result.verdict is Verdict.PARITY
    assert result.modes[0].repeatable is False
    assert check(make, case, modes=["lock-step"]).modes[0].repeatable is True


def test_subject_that_computes_in_a_narrower_format_than_it_says_is_told_so(case):
    class Narrow(Twin):
        def __init__(self, config, hyper):
            super().__init__(config, hyper, dtype="float32")
            self.dtype, self.inner = "float64", "float32"

        def load(self, state):
            self.dtype = "float32"
            super().load(state)
            self.dtype = "float64"

    result = check(Narrow, case)
    assert result.verdict is Verdict.DIVERGED
    assert 'says so with an attribute dtype = "float32"' in result.reason
    wrong = check(answering(with_field("loss", lambda loss: loss + 1e-6)), case)
    assert "attribute dtype" not in wrong.reason


def test_subject_that_says_forward_only_and_exposes_updates_is_an_error(case):
    class Both(Twin):
        forward_only = True

    result = check(Both, case)
    assert result.verdict is Verdict.ERROR
    assert result.reason == "The subject exposes m after an update, and says forward_only = True."


def test_subject_that_exposes_nothing_at_first_is_an_error(case):
    class Late(Twin):
        def train_step(self, batch):
            answer = super().train_step(batch)
            return answer if self.state.step > 1 else Step()

    result = check(Late, case, modes=["lock-step"])
    assert result.verdict is Verdict.ERROR
    assert "at some steps and not at others (step 1)" in result.reason


def test_second_answer_that_exposes_less_is_no_second_answer(case):
    calls = iter(range(100))

    def forgetful(step):
        return step if next(calls) < 2 else Step(loss=step.loss)

    result = check(answering(forgetful), case, modes=["lock-step"])
    assert result.verdict is Verdict.ERROR
    assert result.reason == "Asked about step 0 a second time, the subject exposes something else."


def test_divergence_is_kept_where_the_second_question_fails(case):
    class Fragile(Twin):
        loads = 0

        def load(self, state):
            self.loads += 1
            assert self.loads < 4
            super().load(state)

        def train_step(self, batch):
            return replace(super().train_step(batch), loss=0.0)

    result = check(Fragile, replace(case, steps=1), modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED or "AssertionError" in result.reason
    assert result.modes[0].first_divergence is not None


@pytest.mark.parametrize("seed", range(6))
def test_correct_subject_that_rounds_at_random_is_not_called_inconsistent(seed):
    generator = torch.Generator().manual_seed(seed)
    wide = Case.from_names(steps=2, seed=seed, config={"n_embd": 8, "n_head": 2})

    def rounded(grads):
        noise = {name: torch.rand(g.shape, generator=generator, dtype=g.dtype) * 2 - 1 for name, g in grads.items()}
        return {name: g * (1 + 2**-24 * noise[name]) for name, g in grads.items()}

    def change(step):
        return Step(loss=step.loss, logits=step.logits, grads=rounded(step.grads))

    class Random(Twin):
        def __init__(self, config, hyper):
            super().__init__(config, hyper, dtype="float32")

        def train_step(self, batch):
            return change(super().train_step(batch))

    result = check(Random, wide, modes=["lock-step"])
    assert result.verdict is Verdict.PARITY
    assert result.modes[0].repeatable is False


class ForwardOnly(Twin):
    """A twin that answers with logits and loss, and updates nothing."""

    def train_step(self, batch: list[list[int]]) -> Step:
        state = self.state
        answer = super().train_step(batch)
        self.state = state
        return Step(loss=answer.loss, logits=answer.logits)


def test_forward_only_subject_gets_a_verdict_on_just_that(case):
    class Declared(ForwardOnly):
        forward_only = True

    result = check(Declared, case)
    assert result.verdict is Verdict.PARITY
    assert [mode.mode for mode in result.modes] == ["lock-step"]
    assert result.unchecked == ["grad", "m", "v", "param"]
    with pytest.raises(UsageError, match="says forward_only = True; it can be checked in lock-step alone"):
        check(Declared, case, modes=["free-running"])


def test_forward_only_subject_that_does_not_say_so_is_told_how(case):
    result = check(ForwardOnly, case)
    assert [mode.verdict for mode in result.modes] == [Verdict.PARITY, Verdict.DIVERGED]
    assert "says so with an attribute forward_only = True" in result.reason


@pytest.mark.parametrize("field", ["loss", "logits", "params"])
def test_subject_that_exposes_one_quantity_is_judged_on_it_in_both_modes(case, field):
    def only(step):
        return Step(**{field: getattr(step, field)})

    result = check(answering(only), case)
    assert result.verdict is Verdict.PARITY
    assert [mode.mode for mode in result.modes] == ["lock-step", "free-running"]
    assert result.unchecked == [q for q in ("logits", "loss", "grad", "m", "v", "param") if q != QUANTITIES[field]]

    def wrong(step):
        step.loss += 1e-6
        step.logits = [matrix * 1.0001 for matrix in step.logits]
        step.params = {name: matrix * 1.0001 for name, matrix in step.params.items()}
        return only(step)

    assert check(answering(wrong), case).verdict is Verdict.DIVERGED


def test_subject_that_answers_with_its_own_state_and_changes_it_later_is_judged_on_what_it_answered(case):
    class Overwriting(Twin):
        def train_step(self, batch):
            answer = super().train_step(batch)
            if hasattr(self, "last"):
                for matrix in self.last.params.values():
                    matrix.fill_(math.nan)
            self.last = answer
            return answer

        def load(self, state):
            super().load(state)
            vars(self).pop("last", None)

    assert check(Overwriting(case.config, case.hyper), case).verdict in (Verdict.PARITY, Verdict.IDENTICAL)


def test_free_running_sees_drift_that_lock_step_cannot(case):
    class Forgetful(Twin):
        """Keeps its weights in float32 between steps; every step alone is right."""

        def train_step(self, batch):
            answer = super().train_step(batch)
            params = {name: matrix.float().double() for name, matrix in self.state.params.items()}
            self.state = replace(self.state, params=params)
            return answer

    lock_step, free_running = check(Forgetful(case.config, case.hyper), case).modes
    assert lock_step.verdict in (Verdict.PARITY, Verdict.IDENTICAL)
    assert free_running.verdict is Verdict.DIVERGED
    assert free_running.first_divergence.step == 1


def test_result_as_json_has_no_nan_and_reads_back(case):
    results = [check(make, case, sites=True), check(answering(with_field("loss", lambda loss: math.nan)), case)]
    results += [
        check(answering(with_field("loss", lambda loss: math.inf)), case),
        check(answering(lambda step: 1), case),
    ]
    for result in results:
        text = json.dumps(result.to_dict(), allow_nan=False)
        assert json.loads(text) == result.to_dict()
        assert json.loads(text)["verdict"] == result.verdict.value


@pytest.mark.parametrize(
    ("tensors", "scale", "activation"),
    [("lm_head", 1e6, "relu"), ("layer0.mlp_fc1", 1e200, "relu2"), ("", 1e200, "relu")],
    ids=["a probability is 0", "a square overflows", "a gradient is NaN"],
)
def test_case_without_an_expectation_is_inconclusive(case, tensors, scale, activation):
    params = {
        name: [[scale * x if tensors in name else x for x in row] for row in matrix]
        for name, matrix in case.state.params.items()
    }
    state = replace(case.state, params=params)
    config = replace(case.config, activation=activation)
    result = check(make, replace(case, state=state, config=config, steps=1))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.verdict.exit_status == 3
    assert "reference" in result.reason.lower()
    assert result.reason.endswith(".")


def test_modes_are_run_as_named(case):
    assert [mode.mode for mode in check(make, case, modes=["free-running"]).modes] == ["free-running"]
    with pytest.raises(ValueError, match="mode"):
        check(make, case, modes=[])


def test_unknown_mode_is_refused(case):
    with pytest.raises(ValueError, match="mode"):
        check(make, case, modes=["lockstep"])


def test_progress_is_told_of_every_step(case):
    told = []
    check(make, case, progress=lambda mode, steps: told.append((mode, steps)))
    assert told == [("lock-step", 1), ("lock-step", 2), ("free-running", 1), ("free-running", 2)]


def test_sites_are_not_left_exposed_by_a_divergence(case):
    exposures = []

    class Wrong(Twin):
        def train_step(self, batch):
            exposures.append(self.expose_sites)
            return replace(super().train_step(batch), loss=0.0)

    result = check(Wrong(case.config, case.hyper), case, modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert exposures[:3] == [False, True, False]
    assert exposures.count(True) == 1


@pytest.mark.parametrize(("dtype", "sites"), [("float64", True), ("bfloat16", False)])
def test_sites_stay_exposed_where_they_are_asked_for(case, dtype, sites):
    """In short formats they are: it is by them that a subject's own gates are seen."""
    exposures = []

    class Wrong(Twin):
        def train_step(self, batch):
            exposures.append(self.expose_sites)
            return replace(super().train_step(batch), loss=0.0)

    result = check(Wrong(case.config, case.hyper, dtype), case, sites=sites)
    assert result.verdict is Verdict.DIVERGED
    assert len(exposures) > 4
    assert all(exposures)


@pytest.mark.parametrize("broken", ["raises", "has other shapes", "has other names"])
def test_broken_sites_do_not_hide_a_divergence(case, broken):
    class Wrong(Twin):
        def train_step(self, batch):
            answer = replace(super().train_step(batch), loss=0.0)
            if not self.expose_sites:
                return answer
            if broken == "raises":
                raise RuntimeError("no sites")
            sites = (
                {"here": answer.sites["logits"]}
                if "names" in broken
                else {"logits": [0.0] * len(answer.sites["logits"])}
            )
            return replace(answer, sites=sites, site_grads=None)

    result = check(Wrong(case.config, case.hyper), case, modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.quantity == "loss"


def test_subject_without_sites_is_unchecked_in_them_where_they_are_asked_for(case):
    class Plain:
        def __init__(self, twin):
            self.load, self.train_step = twin.load, twin.train_step

    result = check(Plain(Twin(case.config, case.hyper)), case, sites=True)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL)
    assert set(result.unchecked) == {"site", "site grad"}


def test_every_field_of_a_step_is_a_quantity():
    assert {field.name for field in fields(Step)} == {*FIELDS, "sites", "site_grads"}


def test_default_case_is_twenty_steps_of_the_embedded_names():
    case = Case.from_names()
    assert case.steps == 20
    assert case.config == Config(vocab_size=case.config.vocab_size)
