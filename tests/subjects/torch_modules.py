"""Modules as people write them, none of this project's making, and where each keeps the weights of the reference."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from parity import Config
from parity.modules import Arranged, stacked

EPS = 1e-5
QKV = ("layer{i}.attn_wq", "layer{i}.attn_wk", "layer{i}.attn_wv")


class NanoAttention(nn.Module):
    """One matrix for q, k and v; by_head: its rows are q, k and v of the first head, then of the next, as in NeoX."""

    def __init__(self, config: Config, dropout: float, by_head: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head, self.dropout, self.by_head = config.n_head, dropout, by_head

    def forward(self, x):
        parts = (self.n_head, 3, -1) if self.by_head else (3, self.n_head, -1)
        qkv = self.qkv(x).unflatten(-1, parts)
        qkv = qkv.transpose(2, 3) if self.by_head else qkv
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        heads = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        return self.proj(heads.transpose(1, 2).flatten(2))


class NanoMLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        return self.down(self.up(x).relu())


class NanoGPT(nn.Module):
    """In the manner of nanoGPT: Linear layers, fused attention, a norm without gain."""

    def __init__(self, config: Config, dropout: float = 0.0, by_head: bool = False, eps: float = EPS) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(
            nn.ModuleDict({"attn": NanoAttention(config, dropout, by_head), "mlp": NanoMLP(config)})
            for _ in range(config.n_layer)
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.eps = eps

    def norm(self, x):
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)

    def positions(self, tokens):
        return torch.arange(tokens.shape[1], device=tokens.device)

    def forward(self, tokens):
        x = self.norm(self.wte(tokens) + self.wpe(self.positions(tokens)))
        for block in self.h:
            x = x + block["attn"](self.norm(x))
            x = x + block["mlp"](self.norm(x))
        return self.lm_head(x)


NANO = {
    "wte.weight": "wte",
    "wpe.weight": "wpe",
    "lm_head.weight": "lm_head",
    "h.{i}.attn.qkv.weight": stacked(*QKV),
    "h.{i}.attn.proj.weight": "layer{i}.attn_wo",
    "h.{i}.mlp.up.weight": "layer{i}.mlp_fc1",
    "h.{i}.mlp.down.weight": "layer{i}.mlp_fc2",
}


class Conv1D(nn.Module):
    """GPT-2's linear layer: the weight is (in, out)."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns))
        self.bias = nn.Parameter(torch.zeros(columns))

    def forward(self, x):
        return x @ self.weight + self.bias


class GPT2Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = (nn.RMSNorm(config.n_embd, eps=EPS) for _ in range(2))
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd)
        self.c_out = Conv1D(4 * config.n_embd, config.n_embd)
        self.act = nn.ReLU()
        self.n_head = config.n_head
        self.register_buffer("mask", torch.ones(config.block_size, config.block_size, dtype=torch.bool).triu(1))

    def forward(self, x):
        n = x.shape[1]
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        heads = scores.masked_fill(self.mask[:n, :n], float("-inf")).softmax(-1) @ v
        x = x + self.c_proj(heads.transpose(1, 2).flatten(2))
        return x + self.c_out(self.act(self.c_fc(self.ln_2(x))))


class GPT2(nn.Module):
    """In the manner of transformers' GPT-2: transposed weights, gains and biases, the answer wrapped up."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.ln = nn.RMSNorm(config.n_embd, eps=EPS)
        self.h = nn.ModuleList(GPT2Block(config) for _ in range(config.n_layer))
        self.head = Conv1D(config.n_embd, config.vocab_size)

    def forward(self, tokens):
        x = self.ln(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device)))
        for block in self.h:
            x = block(x)
        return SimpleNamespace(logits=self.head(x), past_key_values=None)


GPT2_NAMES = {
    "wte.weight": "wte",
    "wpe.weight": "wpe",
    "head.weight": "lm_head.T",
    "h.{i}.c_attn.weight": stacked(*QKV).T,
    "h.{i}.c_proj.weight": "layer{i}.attn_wo.T",
    "h.{i}.c_fc.weight": "layer{i}.mlp_fc1.T",
    "h.{i}.c_out.weight": "layer{i}.mlp_fc2.T",
}

GPT2_SITES = {
    "ln.input": "embedding",
    "ln": "norm",
    "h.{i}.ln_1": "layer{i}.attn.norm",
    "h.{i}.c_attn": stacked("layer{i}.attn.q", "layer{i}.attn.k", "layer{i}.attn.v"),
    "h.{i}.c_proj.input": "layer{i}.attn.heads",
    "h.{i}.ln_2.input": "layer{i}.attn.residual",
    "h.{i}.ln_2": "layer{i}.mlp.norm",
    "h.{i}.c_fc": "layer{i}.mlp.pre",
    "h.{i}.act": "layer{i}.mlp.post",
    "h.{i}": "layer{i}.mlp.residual",
    "head": "logits",
}


class Head(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(config.n_embd, config.head_dim, bias=False) for _ in range(3))

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class HeadByHead(nn.Module):
    """In the manner of a first lecture: every head is a module of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(config) for _ in range(config.n_head))
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class LectureGPT(NanoGPT):
    """Answers with logits and a loss that is None where no targets are given."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for block in self.h:
            block["attn"] = HeadByHead(config)

    def forward(self, tokens, targets=None):
        return super().forward(tokens), None


def lecture_names(n_head: int):
    parts = {
        f"h.{{i}}.attn.heads.{h}.{kind}.weight": Arranged(
            (f"layer{{i}}.attn_w{kind[0]}",), lambda matrix, h=h: matrix.chunk(n_head)[h]
        )
        for kind in ("query", "key", "value")
        for h in range(n_head)
    }
    return {name: entry for name, entry in NANO.items() if "qkv" not in name} | parts
