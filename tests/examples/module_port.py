"""A torch.nn.Module as a subject for microgpt-parity: a GPT as people write it, and what a check must be told of it.

    parity check module_port.py:make                     in float64; --dtype float32 in that
    parity check module_port.py:make --sites             every site of the map is compared, too
    parity check module_port.py:make --dtype bfloat16    under autocast, with weights and moments in float32

Put your own module in place of GPT, and the names of its parameters and modules into the two maps; then what a check
says of it is said of your model. What must be computed is defined by reference/microgpt.py.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from parity import Config, Hyper
from parity.modules import ModuleSubject, stacked


class Attention(nn.Module):
    """Causal attention; one matrix makes queries, keys and values."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(documents, positions, n_embd) to the same."""
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        heads = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(heads.transpose(1, 2).flatten(2))


class Activation(nn.Module):
    """ReLU, or its square; a module of its own, so that a hook sees what it gives."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.squared = config.activation == "relu2"

    def forward(self, x: Tensor) -> Tensor:
        """(documents, positions, 4 * n_embd) to the same."""
        return x.relu() ** 2 if self.squared else x.relu()


class Block(nn.Module):
    """A layer: attention, then the MLP, each after a norm and beside a residual connection."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = norm(config), norm(config)
        self.attn = Attention(config)
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.act = Activation(config)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(documents, positions, n_embd) to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.down(self.act(self.up(self.ln_2(x))))


class GPT(nn.Module):
    """microGPT for a batch of documents at once."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.ln = norm(config)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (documents, positions) to logits (documents, positions, vocab_size)."""
        x = self.ln(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])
        for block in self.h:
            x = block(x)
        return self.lm_head(x)


def norm(config: Config) -> nn.Module:
    """The reference's: it has no gain. One that has is given frozen=("*ln*",) below, and its gain must be 1."""
    return nn.RMSNorm(config.n_embd, eps=1e-5, elementwise_affine=False)


NAMES = {
    "wte.weight": "wte",
    "wpe.weight": "wpe",
    "lm_head.weight": "lm_head",
    "h.{i}.attn.qkv.weight": stacked("layer{i}.attn_wq", "layer{i}.attn_wk", "layer{i}.attn_wv"),
    "h.{i}.attn.proj.weight": "layer{i}.attn_wo",
    "h.{i}.up.weight": "layer{i}.mlp_fc1",
    "h.{i}.down.weight": "layer{i}.mlp_fc2",
}
"""Where the reference's matrices lie; {i} stands for every layer. A transposed one is "layer{i}.mlp_fc1.T"."""

SITES = {
    "ln.input": "embedding",
    "ln": "norm",
    "h.{i}.ln_1": "layer{i}.attn.norm",
    "h.{i}.attn.qkv": stacked("layer{i}.attn.q", "layer{i}.attn.k", "layer{i}.attn.v"),
    "h.{i}.attn.proj.input": "layer{i}.attn.heads",
    "h.{i}.ln_2.input": "layer{i}.attn.residual",
    "h.{i}.ln_2": "layer{i}.mlp.norm",
    "h.{i}.up": "layer{i}.mlp.pre",
    "h.{i}.act": "layer{i}.mlp.post",
    "h.{i}": "layer{i}.mlp.residual",
    "lm_head": "logits",
}
"""What modules give, or with .input what they are given: the first one that is wrong places a mistake. Optional, and as
many as you like; help(parity.Step) lists the names."""


def loss(module: nn.Module, batch: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
    """The loss and the logits of each document: what ModuleSubject does by itself, here to be changed.

    batch: documents with BOS at both ends, of which n = min(block_size, len - 1) positions count. The loss is the mean
    of the documents' means, whatever their lengths.
    """
    weight = module.wpe.weight
    documents = [torch.tensor(tokens[: len(weight) + 1], device=weight.device) for tokens in batch]
    rows = module(pad_sequence([document[:-1] for document in documents], batch_first=True))
    logits = [own[: len(document) - 1] for own, document in zip(rows, documents, strict=True)]
    losses = [cross_entropy(own, document[1:]) for own, document in zip(logits, documents, strict=True)]
    return torch.stack(losses).mean(), logits


def make(config: Config, hyper: Hyper, dtype: str = "float64", device: str = "cpu") -> ModuleSubject:
    """The factory that `parity check` calls; --dtype and --device choose the last two."""
    mixed = dtype in ("bfloat16", "float16")

    def loss_under_autocast(module: nn.Module, batch: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
        autocast = torch.autocast(device, getattr(torch, dtype)) if mixed else nullcontext()
        with autocast:
            return loss(module, batch)

    stored = "float32" if mixed else dtype
    subject = ModuleSubject(
        GPT(config), config, hyper, NAMES, sites=SITES, loss=loss_under_autocast, dtype=stored, device=device
    )
    subject.dtype, subject.storage = dtype, stored  # products in one, weights and moments in the other
    return subject
