"""Cached decoding: token by token, for all documents at once, with the keys and values of the past kept.

Builds on `padded`, whose positions are computed all at once, which needs the whole document. This is how a trained
model generates: a position is computed from its token and the cache, and no gradients exist.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import Step
from torch_twin.padded import Padded
from torch_twin.positions import layer_weights, linear, rmsnorm


class Decoding(Padded):
    """The loss is that of the given documents, so that it can be compared."""

    forward_only = True

    @override
    @torch.no_grad()
    def update(self, inputs: Any) -> Tensor:
        """The loss of what is decoded; nothing is updated."""
        loss, self.logits = self.loss(inputs, self.state.params)
        return loss

    @override
    def forward(self, tokens: Tensor, params: dict[str, Tensor], *where: Tensor | None) -> Tensor:
        """The logits, (documents, n, vocab_size), of tokens (documents, n), one column after another."""
        config = self.config
        # Made at once for the whole block: a cache that grows would be copied at every token.
        shape = (config.n_layer, 2, len(tokens), config.n_head, config.block_size, config.head_dim)
        cache = torch.empty(shape, dtype=params["wte"].dtype, device=tokens.device)
        layers = [layer_weights(params, i) for i in range(config.n_layer)]
        logits = []
        for position, column in enumerate(tokens.split(1, dim=1)):
            x = rmsnorm(params["wte"][column] + params["wpe"][position])
            for w, so_far in zip(layers, cache[..., : position + 1, :]):
                x = self.layer(x, w, so_far)
            logits.append(linear(x, params["lm_head"]))
        return torch.cat(logits, dim=1)

    @override
    def attention(self, x: Tensor, w: dict[str, Tensor], so_far: Tensor) -> Tensor:
        """What the heads gather at one position, side by side: (documents, 1, n_embd).

        so_far: keys and values, (2, documents, n_head, position + 1, head_dim), where those of this position go last.
        """
        q, k, v = (self.split_heads(linear(x, w[f"attn_w{letter}"])) for letter in "qkv")
        keys, values = so_far
        keys[..., -1:, :], values[..., -1:, :] = k, v
        weights = (q @ keys.transpose(-1, -2) / self.config.head_dim**0.5).softmax(dim=-1)
        return (weights @ values).transpose(-2, -3).flatten(-2)

    @torch.no_grad()
    def decode(self, tokens: Sequence[int]) -> Tensor:
        """The logits, (n, vocab_size), of the first n = min(block_size, len(tokens)) tokens, taken one at a time."""
        column = torch.tensor([tokens[: self.config.block_size]], device=self.device)
        return self.forward(column, self.state.params)[0]

    @override
    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Loss and logits of these documents."""
        loss = self.update(self.prepare(batch))
        return Step(loss.item(), self.document_logits(batch))


make = Decoding
