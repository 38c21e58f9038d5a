"""The eager rungs of the ladder: each computes what the reference does, and its typical mistake is caught."""

import importlib
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from parity import Hyper, Step, Verdict, check
from parity.testing import assert_parity
from tests.torch_twin.small_cases import BOS, CASES, SMALL, UNLIKE, agree_on_drawn_cases, name, small
from torch_twin.accumulation import Accumulation
from torch_twin.checkpointing import Checkpointing
from torch_twin.decoding import Decoding
from torch_twin.foreach_adam import ForeachAdam
from torch_twin.fused_adam import FusedAdam
from torch_twin.fused_attention import FusedAttention
from torch_twin.packed import GRAIN, Packed
from torch_twin.padded import Padded
from torch_twin.tools.threads import threads

TRAINING = (
    "positions",
    "padded",
    "packed",
    "fused_attention",
    "foreach_adam",
    "fused_adam",
    "checkpointing",
    "accumulation",
)
RUNGS = (*TRAINING, "decoding")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads that wait for each other take longer than such small models."""
    with threads(1):
        yield


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("rung", RUNGS)
def test_rung_agrees_with_the_reference(rung, case, tmp_path):
    result = assert_parity(name(rung), case, store=tmp_path)
    training = rung in TRAINING
    assert result.unchecked == ([] if training else ["grad", "m", "v", "param"])
    assert [mode.mode for mode in result.modes] == (["lock-step", "free-running"] if training else ["lock-step"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.usefixtures("by_its_run")
def test_rung_agrees_in_a_narrower_format(rung, dtype, tmp_path):
    assert_parity(name(rung), small(steps=1), dtype=dtype, store=tmp_path)


@pytest.mark.parametrize("rung", RUNGS)
def test_rung_agrees_on_drawn_cases(rung):
    agree_on_drawn_cases(name(rung))


@pytest.mark.parametrize("rung", RUNGS)
def test_unknown_format_is_refused_in_a_sentence(rung):
    make = importlib.import_module(f"torch_twin.{rung}").make
    with pytest.raises(ValueError, match=r"The rung computes in float64, .*, not in 'float8'"):
        make(SMALL, Hyper(), dtype="float8")


def test_packed_row_is_long_enough_for_the_longest_document():
    block = 2 * GRAIN
    subject = Packed(replace(SMALL, block_size=block), Hyper())
    for longest, rows in ((GRAIN, [GRAIN, 1]), (GRAIN + 1, [GRAIN + 2]), (block + 5, [block, 1])):
        weights = subject.prepare([[BOS] * (longest + 1), [BOS, BOS]])[2]
        assert (weights > 0).sum(dim=1).tolist() == rows


def test_accumulation_takes_four_parts_and_fewer_of_a_small_batch():
    subject = Accumulation(SMALL, Hyper())
    assert [count for count, _ in subject.prepare(UNLIKE * 2)] == [3, 3, 3, 1]
    assert [count for count, _ in subject.prepare(UNLIKE)] == [2, 2, 1]
    assert [count for count, _ in subject.prepare(UNLIKE[:1])] == [1]


@pytest.mark.parametrize(("kind", "times"), [(FusedAdam, 1), (Checkpointing, 2)])
def test_checkpointing_computes_every_layer_again(kind, times):
    calls = []

    class Counting(kind):
        def attention(self, *arguments):
            calls.append(arguments)
            return super().attention(*arguments)

    case = small()
    subject = Counting(case.config, case.hyper)
    subject.load(case.state)
    subject.update(subject.prepare(case.documents))
    assert len(calls) == times * case.config.n_layer


def test_decoding_reads_only_what_it_has_written(monkeypatch):
    """What was in the memory of the cache before does not matter, be it NaN."""
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: torch.full(*shape, float("nan"), **options))
    assert_parity(name("decoding"), small())


def test_decode_gives_the_logits_of_single_documents(tmp_path):
    class Decoder(Decoding):
        def train_step(self, batch):
            return Step(logits=[self.decode(tokens[:-1]) for tokens in batch])

    assert_parity(lambda config, hyper: Decoder(config, hyper), small(), store=tmp_path)


class PaddingCounts(Padded):
    def loss(self, inputs, params):
        tokens, targets, _ = inputs
        logits = self.forward(tokens, params)
        return cross_entropy(logits.flatten(0, 1), targets.flatten()), logits


class EveryPositionCountsTheSame(Padded):
    def documents(self, batch):
        documents = super().documents(batch)
        weight = 1 / sum(len(tokens) for tokens, *_ in documents)
        return [(tokens, targets, torch.full_like(weights, weight)) for tokens, targets, weights in documents]


class WeightsInFloat32(Padded):
    def documents(self, batch):
        return [(tokens, targets, weights.float().double()) for tokens, targets, weights in super().documents(batch)]


class PaddingFirst(Padded):
    """As a tokenizer with padding_side="left" does; the logits are even taken from the right places."""

    def prepare(self, batch):
        documents = self.documents(batch)
        longest = max(len(tokens) for tokens, *_ in documents)
        self.left = [longest - len(tokens) for tokens, *_ in documents]
        return tuple(
            torch.stack([torch.nn.functional.pad(part, (left, 0)) for part, left in zip(parts, self.left)])
            for parts in zip(*documents)
        )

    def document_logits(self, batch):
        self.logits = [rows[left:] for rows, left in zip(self.logits, self.left)]
        return super().document_logits(batch)


class SeesTheDocumentBefore(Packed):
    def mask(self, positions):
        return super().mask(torch.arange(positions.shape[1]).expand_as(positions))


class SeesOnePositionTooMany(Packed):
    def mask(self, positions):
        hidden = super().mask(positions)
        return torch.where(hidden.roll(-1, dims=-2) == 0, 0.0, hidden)


class PositionsRunOn(Packed):
    def prepare(self, batch):
        tokens, targets, weights, positions, mask, starts = super().prepare(batch)
        run_on = torch.arange(positions.shape[1]).expand_as(positions) % self.config.block_size
        return tokens, targets, weights, run_on, mask, starts


class HeadsBeforeParts(FusedAttention):
    """The layout of other models: queries, keys and values side by side for every head."""

    def attention(self, x, w, mask=None):
        order = torch.arange(3 * self.config.n_embd).view(self.config.n_head, 3, -1).transpose(0, 1).flatten()
        return super().attention(x, {**w, "attn_wqkv": w["attn_wqkv"][order]}, mask)


class NotCausal(FusedAttention):
    def mask(self, positions):
        mask = super().mask(positions)
        return torch.where(mask.mT == 0, 0.0, mask)


class StepNotLoaded(ForeachAdam):
    def load(self, state):
        super().load(state)
        for moments in self.optimizer.state.values():
            moments["step"].zero_()


class RateNotScheduled(ForeachAdam):
    def descend(self):
        self.optimizer.step()
        self.state.step += 1


class DecayedWeights(FusedAdam):
    def load(self, state):
        super().load(state)
        self.optimizer.param_groups[0]["weight_decay"] = 1e-3


class GradientsLeftOver(FusedAdam):
    def leaves(self):
        return self.state.params


class OtherwiseTheSecondTime(Checkpointing):
    """As dropout would be whose random state is not restored."""

    calls = 0

    def attention(self, x, w, mask=None):
        again = self.calls // self.config.n_layer % 2
        self.calls += 1
        return super().attention(x * (0.9 if again else 1.0), w, mask)


class EveryPartCountsTheSame(Accumulation):
    def backward(self, inputs, params):
        return super().backward([(1, part) for _, part in inputs], params)


class LastPartAlone(Accumulation):
    def loss(self, inputs, params):
        self.optimizer.zero_grad()
        return super().loss(inputs, params)


class TokenNotInItsOwnCache(Decoding):
    def attention(self, x, w, so_far):
        return super().attention(x, w, so_far[..., : max(1, so_far.shape[-2] - 1), :])


class StaleKeys(Decoding):
    def attention(self, x, w, so_far):
        later = super().attention(x, w, so_far)
        so_far[0] = so_far[0, ..., :1, :]
        return later


FAULTS = {
    PaddingCounts: "step 7: loss: ",
    EveryPositionCountsTheSame: "step 7: loss: ",
    WeightsInFloat32: "step 7: loss: ",
    PaddingFirst: "step 7: logits document 0[0,0]: ",
    SeesTheDocumentBefore: "step 7: logits document ",
    SeesOnePositionTooMany: "step 7: logits document ",
    PositionsRunOn: "step 7: logits document ",
    HeadsBeforeParts: "step 7: logits document 0[",
    NotCausal: "step 7: logits document 0[0,0]: ",
    StepNotLoaded: "step 7: param lm_head[0,0]: ",
    RateNotScheduled: "step 7: param lm_head[0,0]: ",
    DecayedWeights: "step 7: m lm_head[",
    GradientsLeftOver: "step 8: grad lm_head[",
    OtherwiseTheSecondTime: "step 7: grad layer1.mlp_fc2[0,0]: ",
    EveryPartCountsTheSame: "step 7: loss: ",
    LastPartAlone: "step 7: grad lm_head[",
    TokenNotInItsOwnCache: "step 7: logits document 0[1,0]: ",
    StaleKeys: "step 7: logits document 0[2,0]: ",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_planted_fault_is_caught_and_placed(fault, reason):
    # A load forgets gradients that are left over, so these show in the second step of a free run.
    modes, steps = (["free-running"], 2) if fault is GradientsLeftOver else (["lock-step"], 1)
    result = check(lambda config, hyper: fault(config, hyper), small(steps=steps), modes=modes)
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith(reason), result.reason
