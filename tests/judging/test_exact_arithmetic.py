"""What rounding hides from anybody who looks at answers shows in exact arithmetic, and nothing else does."""

import copy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from typing_extensions import override

from parity import Case, Verdict, check
from parity.catalogue.exclusion import note_exclusion
from parity.catalogue.naming import name_mistakes
from parity.cli.check_tables import heading, overview
from parity.judging import probing
from parity.judging.on_shadows import UnroundedConstants
from parity.judging.probes import probes_for
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.oracle.shadows.shadow import Shadow
from parity.strategies import cases, configs
from tests.faults import planted
from torch_twin.microgpt import Twin, activate
from torch_twin.microgpt import make as twin
from torch_twin.positions import Positions, linear

SMALL = Case.from_names(seed=5, steps=2, batch_size=2, config={"n_layer": 2, "n_embd": 8, "n_head": 2})
TINY = Case.from_names(seed=5, steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 4})
RUNGS = (
    *("microgpt", "positions", "padded", "packed", "fused_attention", "foreach_adam", "fused_adam"),
    *("checkpointing", "accumulation", "decoding", "whole_step"),
)
HIDDEN = {
    "eps of the norm": (("+ 1e-5) ** -0.5", "+ 1.1e-5) ** -0.5"), "begins at logits"),
    "scale of the scores": (("/ config.head_dim**0.5", "/ (1.0005 * config.head_dim**0.5)"), "begins at logits"),
    "eps of Adam": (("(v_hat**0.5 + hyper.eps_adam)", "(v_hat**0.5 + 1.01 * hyper.eps_adam)"), "begins at param"),
    "rate": (("rate * m_hat /", "1.0003 * rate * m_hat /"), "begins at param"),
}
"""Too small for bfloat16 to show, and where they begin."""


def exact(result):
    """The mode in exact arithmetic."""
    (mode,) = (mode for mode in result.modes if mode.mode == "exact arithmetic")
    return mode


@pytest.fixture(autouse=True)
def _eager():
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rung", RUNGS)
def test_rung_is_the_references_function_behind_its_format(rung, dtype):
    result = check(f"torch_twin.{rung}:make", SMALL, dtype=dtype, modes="lock-step")
    assert result.verdict is Verdict.PARITY, result.reason
    assert exact(result).largest_z < 5
    assert max(row.largest_z.error for row in exact(result).quantities.values()) < 1e-9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_drawn_cases_are_no_false_alarms(dtype):
    found = []

    @settings(max_examples=8)
    @given(case=cases(config=configs(max_embd=6, max_block=4), max_steps=1, max_batch=2))
    def inner(case):
        subject = Positions if len(found) % 2 else Twin
        result = check(lambda c, h: subject(c, h, dtype), case, modes="lock-step")
        found.extend(mode for mode in result.modes if mode.mode == "exact arithmetic")

    inner()
    assert found
    assert not [mode.reason for mode in found if mode.verdict is Verdict.DIVERGED]


@pytest.mark.parametrize("mistake", HIDDEN)
def test_mistake_that_bfloat16_hides_is_seen(mistake):
    edit, where = HIDDEN[mistake]
    with planted(edit) as make:
        hidden = check(make, TINY, dtype="bfloat16", modes="free-running")
        result = check(make, TINY, dtype="bfloat16", modes="lock-step")
    assert hidden.verdict is Verdict.PARITY
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].verdict is Verdict.PARITY
    assert where in " ".join(map(" ".join, exact(result).location_lines))


class Autocast(Positions):
    def loss(self, *arguments):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().loss(*arguments)


def autocast(config, hyper):
    return Autocast(config, hyper, "float32")


def test_wider_rounding_of_its_own_is_a_loss_of_precision():
    result = check(autocast, SMALL, modes="lock-step")
    assert result.verdict is Verdict.PRECISION_LOSS, result.reason
    assert "in exact arithmetic it is the reference's function" in result.reason
    assert "it computes in bfloat16, as under autocast" in result.reason


class WrongKernel(torch.autograd.Function):
    """Right in its code on shadows, and a percent off where it runs."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (1 if isinstance(x, Shadow) or Shadow in map(type, [x.data]) else 1.01)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Miscompiled(Positions):
    def loss(self, *arguments):
        loss, logits = super().loss(*arguments)
        return WrongKernel.apply(loss), logits


def test_what_runs_otherwise_than_it_is_written_diverges():
    result = check(lambda c, h: Miscompiled(c, h, "float32"), SMALL, modes="lock-step")
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].verdict is Verdict.DIVERGED
    assert exact(result).verdict is Verdict.PARITY
    assert "in exact arithmetic it is the reference's function" in result.reason


class SlightlyMiscompiled(Positions):
    """Its logits are 3 % off in what runs, which no element shows in bfloat16, and not in its code."""

    def loss(self, *arguments):
        loss, logits = super().loss(*arguments)
        for _ in range(3):
            logits = [WrongKernel.apply(rows) for rows in logits]
        return loss, logits


def test_what_all_elements_together_show_of_what_runs_is_a_loss_of_precision():
    case = Case.from_names(steps=12, config={"n_embd": 8, "n_head": 2})
    result = check(lambda c, h: SlightlyMiscompiled(c, h, "bfloat16"), case, modes="lock-step", probes=False)
    assert result.modes[0].beyond
    assert result.verdict is Verdict.PRECISION_LOSS, result.reason
    assert "logits are 1.0" in result.reason
    assert "In exact arithmetic it is the reference's function" in result.reason


class FromNumpy(Positions):
    """Its weights of positions come through an array of float32, of which nobody knows what they were meant to be."""

    def load(self, state):
        super().load(state)
        self.third = torch.from_numpy(np.array(1 / 3, dtype=np.float32))

    def train_step(self, batch):
        step = super().train_step(batch)
        return replace(step, loss=step.loss * (3 * self.third))


def test_constant_that_was_rounded_before_is_no_other_function(monkeypatch):
    monkeypatch.setattr(probing, "probes_for", lambda *model: probes_for(*model)[:3])  # what these do all of them do
    result = check(lambda c, h: FromNumpy(c, h, "bfloat16"), TINY, modes="lock-step", probes=True)
    assert result.verdict is Verdict.PARITY, result.reason
    assert exact(result).by_constants
    note_exclusion(result)
    sharper = check(lambda c, h: Positions(c, h, "bfloat16"), TINY, modes="lock-step", probes=True)
    note_exclusion(sharper)
    assert sharper.excluded.undecided.keys() < result.excluded.undecided.keys()


THIRD = torch.tensor(1 / 3)
"""As a module makes it when it is imported, where nobody sees what it is made of."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cast", [True, False])
def test_constant_that_was_there_before_is_no_other_function(cast, dtype):
    class Kept(Positions):
        def loss(self, *arguments):
            loss, logits = super().loss(*arguments)
            return loss * 3 * (THIRD.to(loss.dtype) if cast else THIRD), logits

    result = check(lambda c, h: Kept(c, h, dtype), TINY, modes="lock-step")
    assert result.verdict is Verdict.PARITY, result.reason
    assert exact(result).by_constants


def test_constant_that_is_farther_off_than_rounding_takes_it_is_another_function():
    off = THIRD * (1 + 100 * 2.0**-24)  # of which some 30 units are explained, by a floor from few replicas

    class Kept(Positions):
        def loss(self, *arguments):
            loss, logits = super().loss(*arguments)
            return loss * 3 * off, logits

    result = check(lambda c, h: Kept(c, h, "bfloat16"), TINY, modes="lock-step")
    assert exact(result).verdict is Verdict.DIVERGED
    assert not exact(result).by_constants


class Unlike(Positions):
    """Each one that is made is off by another share of a thousandth."""

    made = 0

    def forward(self, *arguments, **options):
        return super().forward(*arguments, **options) * self.factor

    def load(self, state):
        super().load(state)
        Unlike.made += 1
        self.factor = 1 + 1e-4 * (Unlike.made * 7 % 5 + 1)


def test_subject_that_answers_otherwise_each_time_is_no_matter_of_rounding():
    result = check(lambda c, h: Unlike(c, h, "bfloat16"), TINY, modes="lock-step")
    assert result.verdict is Verdict.PARITY
    (phrase,) = (phrase for phrase in result.not_exercised if phrase.startswith("what rounding in bfloat16 hides"))
    assert "Made once more, it answers otherwise" in phrase


class InPlace(Twin):
    """Keeps its moments where those of the one that was made before it lay."""

    moments: ClassVar[dict[str, torch.Tensor]] = {}

    def train_step(self, batch):
        step = super().train_step(batch)
        for name, moment in step.m.items():
            InPlace.moments.setdefault(name, torch.zeros(moment.shape, dtype=moment.dtype)).copy_(moment)
        return replace(step, m=dict(InPlace.moments))


def test_subject_that_writes_where_it_was_not_made_is_not_taken_for_exact():
    result = check(lambda c, h: InPlace(c, h, "bfloat16"), TINY, modes="lock-step")
    assert result.verdict is Verdict.PARITY, result.reason
    assert any("It writes to tensors that were there before it was made" in said for said in result.not_exercised)


def test_what_float16_cannot_hold_is_no_wrong_kernel():
    result = check(lambda config, hyper: Positions(config, hyper, "float16"), SMALL, modes="lock-step")
    assert result.verdict is Verdict.PRECISION_LOSS, result.reason
    assert "in exact arithmetic: float16 cannot hold what is computed on the way to it" in result.reason


class OthersOperations(Positions):
    """Its norm is the library's, its scores begin in a matrix that is not read, and it keeps a copy of its state."""

    def load(self, state):
        super().load(state)
        self.kept = copy.deepcopy(self.state)

    def layer(self, x, w, mask=None):
        def norm(x):
            return torch.nn.functional.rms_norm(x, (x.shape[-1],), eps=1e-5)

        x = x + linear(self.attention(norm(x), w, mask), w["attn_wo"])
        return x + linear(activate(linear(norm(x), w["mlp_fc1"]), self.config), w["mlp_fc2"])

    def attention(self, x, w, mask=None):
        q, k, v = (self.split_heads(linear(x, w[f"attn_w{letter}"])) for letter in "qkv")
        unread = torch.full((*q.shape[:-1], q.shape[-2]), float("nan"), dtype=x.dtype)
        scores = torch.baddbmm(unread, q, k.transpose(-1, -2), beta=0, alpha=self.config.head_dim**-0.5)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return (scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ v).transpose(-2, -3).flatten(-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_operations_of_others_are_exact(dtype):
    result = check(lambda c, h: OthersOperations(c, h, dtype), SMALL, modes="lock-step")
    assert result.verdict is Verdict.PARITY, result.reason
    assert not exact(result).by_constants


class NotOnShadows(Twin):
    def train_step(self, batch):
        if any(isinstance(x, Shadow) for x in self.state.params.values()):
            raise RuntimeError("no kernel for this")
        return super().train_step(batch)


def test_subject_that_cannot_run_in_exact_arithmetic_says_so():
    result = check(lambda c, h: NotOnShadows(c, h, "float32"), SMALL, modes="lock-step")
    assert result.verdict is Verdict.PARITY
    (phrase,) = (phrase for phrase in result.not_exercised if phrase.startswith("what rounding in float32 hides"))
    assert "The subject raised RuntimeError: no kernel for this" in phrase


def test_ranks_of_other_processes_are_not_taken_for_exact():
    result = check("torch_twin.data_parallel:make", SMALL, dtype="bfloat16", modes="lock-step", probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert any("Its answers are no tensors that PyTorch computed here" in phrase for phrase in result.not_exercised)


def test_subject_without_torch_is_left_alone():
    result = check("tests.examples.numpy_port:make", SMALL, modes="lock-step")
    assert [mode.mode for mode in result.modes] == ["lock-step"]


def test_float64_hides_nothing():
    result = check(twin, SMALL, modes="lock-step")
    assert [mode.mode for mode in result.modes] == ["lock-step"]


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.tensor([1 / 3], dtype=torch.bfloat16),
        lambda: torch.tensor(1 / 3),
        lambda: torch.as_tensor([1 / 3], dtype=torch.float16),
        lambda: torch.full((2,), 1 / 3, dtype=torch.bfloat16),
        lambda: torch.full_like(torch.zeros(2), 1 / 3),
        lambda: torch.zeros(2).new_full((3,), 1 / 3),
        lambda: torch.zeros(2).new_tensor([1 / 3]),
        lambda: torch.zeros(2).fill_(1 / 3),
        lambda: torch.nn.Parameter(torch.tensor([1 / 3])),
    ],
)
def test_constants_are_what_they_were_meant_to_be(made):
    with UnroundedConstants(), Execution(unrounded=True):
        third = made()
    assert third.dtype is not torch.float64
    assert (third.detach().held == 1 / 3).all()
    with Execution(Noise(0, wide=True, given=True)):  # as where nobody knows what they were meant to be
        moved = made().detach().held
    assert (moved != third.detach().held).all()
    assert moved.flatten()[0].item() == pytest.approx(1 / 3, rel=2**-7)


def test_constants_that_are_short_are_exact():
    with Execution(Noise(0, wide=True, given=True)):
        for x in (0.0, 1.0, -0.5, 3.0, float("inf")):
            assert torch.full((2,), x, dtype=torch.bfloat16).held.tolist() == [x, x]
            assert torch.tensor([x]).held.tolist() == [x]


def test_element_that_is_set_to_a_number_of_pythons():
    with UnroundedConstants(), Execution(unrounded=True):
        x = torch.zeros(3)
        x[:2] = 1 / 3
    assert x.held.tolist() == [1 / 3, 1 / 3, 0]


def test_what_is_printed_says_that_only_exact_arithmetic_shows_it():
    with planted(HIDDEN["eps of the norm"][0]) as make:
        result = check(make, TINY, dtype="bfloat16")
    assert "That is in exact arithmetic: it is another function, by less than rounding in bfloat16 shows." in str(
        result
    )
    table = overview(result)
    assert table.columns[2:] == ["z lock-step", "z free", "z exact", "would catch", "at worst", "of its run"]
    logits = dict(zip(table.columns, table.rows[0], strict=True))
    assert float(logits["would catch"]) < 1e-9 < float(logits["of its run"])
    assert dict(heading(result, "names"))["case"].endswith("lock-step, free-running and exact arithmetic")


def test_mistake_is_named_in_exact_arithmetic():
    with planted(("+ 1e-5) ** -0.5", "+ 1e-6) ** -0.5")) as make:
        result = check(make, TINY, dtype="bfloat16")
    name_mistakes(result)
    assert result.verdict is Verdict.DIVERGED
    assert list(result.mistakes) == ["norm_eps_slightly_smaller"]


class AnswersInLists(Positions):
    """As ports do that know nothing of tensors."""

    @override
    def train_step(self, batch):
        step = super().train_step(batch)
        lists = {
            part: {n: x.tolist() for n, x in getattr(step, part).items()} for part in ("grads", "params", "m", "v")
        }
        return replace(step, logits=[x.detach().tolist() for x in step.logits], **lists)


class AnswersInArrays(Positions):
    @override
    def train_step(self, batch):
        step = super().train_step(batch)
        return replace(step, logits=[x.detach().numpy() for x in step.logits], grads=None, params=None, m=None, v=None)


@pytest.mark.parametrize("kind", [AnswersInLists, AnswersInArrays])
def test_answers_that_are_no_tensors_are_exact(kind):
    result = check(lambda c, h: kind(c, h, "float32"), TINY)
    assert result.verdict is Verdict.PARITY, result.reason
    assert exact(result).largest_z < 5
    assert not exact(result).by_constants


class WrongFromTheSecondStep(Positions):
    """By less than bfloat16 shows."""

    @override
    def load(self, state):
        super().load(state)
        self.steps = 0

    @override
    def loss(self, inputs, params):
        loss, logits = super().loss(inputs, params)
        self.steps += 1
        return loss * (1 if self.steps == 1 else 1.0005), logits


def test_what_goes_wrong_after_the_first_step_is_seen():
    result = check(lambda c, h: WrongFromTheSecondStep(c, h, "bfloat16"), replace(TINY, steps=2))
    assert result.verdict is Verdict.DIVERGED
    assert [mode.verdict for mode in result.modes] == [Verdict.PARITY, Verdict.PARITY, Verdict.DIVERGED]
    assert exact(result).first_divergence.step == 1
