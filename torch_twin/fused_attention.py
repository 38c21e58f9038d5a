"""Fused attention: queries, keys and values from one matrix product, and torch's attention in one kernel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from reference.config import Config, Hyper, State, Step
from torch_twin.packed import Packed
from torch_twin.positions import linear

PARTS = ("attn_wq", "attn_wk", "attn_wv")
FUSED = "attn_wqkv"


def fused(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The three matrices of every layer one below another as FUSED, the others as they are."""
    result = {name: tensor for name, tensor in tensors.items() if not name.endswith(PARTS)}
    for name in tensors:
        layer, _, kind = name.rpartition(".")
        if kind == PARTS[0]:
            result[f"{layer}.{FUSED}"] = torch.cat([tensors[f"{layer}.{part}"] for part in PARTS])
    return result


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `fused` was made of."""
    result = {name: tensor for name, tensor in tensors.items() if not name.endswith(FUSED)}
    for name in tensors.keys() - result.keys():
        layer = name.rpartition(".")[0]
        result |= {f"{layer}.{part}": tensor for part, tensor in zip(PARTS, tensors[name].chunk(3))}
    return result


class FusedAttention(Packed):
    """Training goes on the fused matrices; they come apart where a step is looked at."""

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        super().load(state)
        self.state = State(fused(self.state.params), fused(self.state.m), fused(self.state.v), state.step)

    def attention(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """What the heads of a layer gather, side by side: (..., n, n_embd)."""
        parts = linear(x, w[FUSED]).unflatten(-1, (3, self.config.n_head, self.config.head_dim))
        q, k, v = (part.transpose(-2, -3) for part in parts.unbind(-3))
        heads = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return heads.transpose(-2, -3).flatten(-2)

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, and all that it computed."""
        step = super().train_step(batch)
        parts: Any = (step.grads, step.params, step.m, step.v)
        return Step(step.loss, step.logits, *map(apart, parts))


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> FusedAttention:
    """The subject `torch_twin.fused_attention:make`."""
    return FusedAttention(config, hyper, dtype, device)
