"""Fused attention: queries, keys and values from one matrix product, and torch's attention in one kernel.

Builds on `packed`. The three matrices of a layer lie one below another as a fourth, on which training goes on; they
come apart where a step is looked at.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from typing_extensions import override

from reference.config import State, Step
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
    """The state holds the fused matrices, with fused moments."""

    @override
    def load(self, state: State) -> None:
        super().load(state)
        self.state = State(fused(self.state.params), fused(self.state.m), fused(self.state.v), state.step)

    @override
    def attention(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        parts = linear(x, w[FUSED]).unflatten(-1, (3, self.config.n_head, self.config.head_dim))
        q, k, v = (part.transpose(-2, -3) for part in parts.unbind(-3))
        heads = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return heads.transpose(-2, -3).flatten(-2)

    @override
    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        step = super().train_step(batch)
        parts: Any = (step.grads, step.params, step.m, step.v)
        return Step(step.loss, step.logits, *map(apart, parts))


make = FusedAttention
