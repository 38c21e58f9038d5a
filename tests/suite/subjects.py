"""Subjects for the suite of laws: what lacks something that a law asks for, and what breaks a few laws and no other."""

import random
from dataclasses import replace

import torch

from parity import Step
from tests.examples.numpy_port import NumpyPort
from tests.implementations import IMPLEMENTATIONS, Vectorised
from torch_twin.microgpt import Twin

fused = IMPLEMENTATIONS["fused attention, torch's Adam"]


class LossOnly(Twin):
    def train_step(self, batch):
        return Step(loss=super().train_step(batch).loss)


class ForwardOnly(Twin):
    forward_only = True

    def train_step(self, batch):
        step = super().train_step(batch)
        return Step(loss=step.loss, logits=step.logits, grads=step.grads)


class Partial(Twin):
    """Leaves some matrices out of every field, and of the gradients another one besides."""

    left_out = ("wpe", "layer0.mlp_fc1")

    def train_step(self, batch):
        step = super().train_step(batch)
        fields = {"grads": (*self.left_out, "layer0.attn_wk"), **dict.fromkeys(("m", "v", "params"), self.left_out)}
        kept = {f: {n: t for n, t in getattr(step, f).items() if n not in left} for f, left in fields.items()}
        return replace(step, **kept)


class Tied(Partial):
    tied_head = True
    left_out = ("wte", "lm_head")


class PartialWithWrongAdam(Partial):
    """Its second moments are off wherever it shows them."""

    def train_step(self, batch):
        step = super().train_step(batch)
        return replace(step, v={name: v * (1 + 1e-9) for name, v in step.v.items()})


def relu_only(config, hyper):
    if config.activation != "relu":
        raise NotImplementedError(f"no {config.activation}")
    return Twin(config, hyper)


def refuses_everything(config, hyper):
    raise NotImplementedError


class Raises(Twin):
    def train_step(self, batch):
        raise RuntimeError("out of ideas")


class Altered(Twin):
    """The twin, with its answers changed by alter(step, batch), and its weights as they were."""

    def train_step(self, batch):
        step = super().train_step(batch)
        self.alter(step, batch)
        return step


class LogitsOff(Altered):
    def alter(self, step, batch):
        step.logits = [rows * (1 + 1e-9) for rows in step.logits]


class LossOff(Altered):
    def alter(self, step, batch):
        step.loss *= 1 + 1e-9


class ForgetsMoments(Twin):
    """Every step is right, but m is lost between steps."""

    def train_step(self, batch):
        step = super().train_step(batch)
        self.state = replace(self.state, m={name: torch.zeros_like(m) for name, m in self.state.m.items()})
        return step


class SmallVocabulary(Altered):
    """Right for few tokens."""

    def alter(self, step, batch):
        if self.config.vocab_size > 16:
            step.loss *= 1 + 1e-9


class SmallBatches(Twin):
    """Leaves out the documents of a batch from the 17th on."""

    def train_step(self, batch):
        step = super().train_step(batch[:16])
        return replace(step, logits=step.logits + step.logits[-1:] * len(batch[16:]))


class LastTokens(Twin):
    """Of a long document, takes the last tokens instead of the first."""

    def train_step(self, batch):
        return super().train_step([tokens[-self.config.block_size - 1 :] for tokens in batch])


class NoEmptyDocuments(Altered):
    """Counts the loss of a document without characters as 0."""

    def alter(self, step, batch):
        if all(len(tokens) == 2 for tokens in batch):
            step.loss = 0.0


def look_ahead(q, k, v):
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def non_causal(config, hyper, dtype="float64"):
    return Vectorised(config, hyper, dtype, attend=look_ahead)


class WeighsByPlace(Twin):
    """The last document of a batch counts twice."""

    def train_step(self, batch):
        step = super().train_step([*batch, batch[-1]] if len(batch) > 1 else batch)
        return replace(step, logits=step.logits[: len(batch)])


class SumOfDocuments(Altered):
    """The gradients of a batch are added up and never divided."""

    def alter(self, step, batch):
        step.grads = {name: grad * len(batch) for name, grad in step.grads.items()}


class MeanOfTokens(Twin):
    """Every token of a batch counts the same, so that a long document counts more than a short one."""

    def train_step(self, batch):
        step = super().train_step(batch)
        lengths = [min(self.config.block_size, len(tokens) - 1) for tokens in batch]
        losses = [
            torch.nn.functional.cross_entropy(rows, torch.tensor(tokens[1 : n + 1]), reduction="sum")
            for rows, tokens, n in zip(step.logits, batch, lengths)
        ]
        return replace(step, loss=(sum(losses) / sum(lengths)).item())


class KeepsMoments(Twin):
    """Takes m and v of the first state that it is given, and never again."""

    def load(self, state):
        mine = getattr(self, "state", None)
        super().load(state)
        if mine is not None:
            self.state = replace(self.state, m=mine.m, v=mine.v)


class Dropout(Altered):
    def __init__(self, config, hyper, dtype="float64"):
        super().__init__(config, hyper, dtype)
        self.rng = random.Random(0)

    def alter(self, step, batch):
        step.logits = [rows * (1 + 1e-3 * self.rng.random()) for rows in step.logits]


class CachesByIdentity(Twin):
    """Converts a list of weights once."""

    cached = None

    def load(self, state):
        if self.cached is not state.params["wte"]:
            self.cached = state.params["wte"]
            super().load(state)


class StaleCache(NumpyPort):
    """The cache outlives the document."""

    tape = None

    def decode(self, tokens):
        rows = []
        for token in tokens:
            seen = 0 if self.tape is None else self.tape.attentions[0].k.shape[1]
            past = self.tape if seen < self.config.block_size else None
            logits, self.tape = self._next(token, past)
            rows.append(logits)
        return rows


class TransposedDecode(NumpyPort):
    def decode(self, tokens):
        return super().decode(tokens).T


class IgnoresTemperature(NumpyPort):
    def sample(self, temperature, count, seed):
        return super().sample(1.0 if temperature else 0.0, count, seed)


class SamplesAtTemperature0(NumpyPort):
    def sample(self, temperature, count, seed):
        return super().sample(temperature or 1.0, count, seed)


class IgnoresSeed(NumpyPort):
    def sample(self, temperature, count, seed):
        return super().sample(temperature, count, 3)


class NoSeed(NumpyPort):
    seeds = 0

    def sample(self, temperature, count, seed):
        self.seeds += 1
        return super().sample(temperature, count, self.seeds)


class KeepsBos(NumpyPort):
    def sample(self, temperature, count, seed):
        bos = self.config.vocab_size - 1
        return [[bos, *document] for document in super().sample(temperature, count, seed)]


class TooFew(NumpyPort):
    def sample(self, temperature, count, seed):
        return super().sample(temperature, count // 2, seed)
