"""Documents last: every tensor lies with the document innermost, and one instruction does the same to many documents.

Builds on `whole_step`. There a vector of features lies together, and matrix products have as many rows as a document
has positions. Here it is (features, position, document) throughout, so that

- a matrix product has its columns side by side, whatever positions and documents they are of: it is wide;
- what is done to a vector or to a row of scores (norms, softmax) is done to many documents in one instruction;
- heads as small as 4 by n need no products of their own: they are sums of products, over many documents at once.
"""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from torch_twin.microgpt import activate
from torch_twin.positions import layer_weights
from torch_twin.whole_step import WholeStep


def linear(w: Tensor, x: Tensor) -> Tensor:
    """w: (rows, columns), x: (columns, n, documents)."""
    return (w @ x.flatten(1)).unflatten(1, x.shape[1:])


def rmsnorm(x: Tensor) -> Tensor:
    """Of every vector in the first dimension."""
    return x * ((x * x).mean(dim=0) + 1e-5).rsqrt()


def one_hot(numbers: Tensor, like: Tensor) -> Tensor:
    """1 at the number and 0 elsewhere: (rows of like, n, documents) of numbers (n, documents)."""
    return (torch.arange(len(like), device=numbers.device)[:, None, None] == numbers).to(like.dtype)


def embedding(w: Tensor, numbers: Tensor) -> Tensor:
    """The rows of w so numbered, (columns, n, documents).

    Looked up by a product with one-hot vectors, since backward is then a product, too. Of an indexed lookup, backward
    adds to the rows that the index names, one position after another, which is slow.
    """
    return linear(w.T, one_hot(numbers, w))


class DocumentsLast(WholeStep):
    """The model of `positions`, line for line in the other layout."""

    @override
    def prepare(self, batch: Any) -> tuple[Tensor, ...]:
        return tuple(part.T.contiguous() for part in super().prepare(batch))

    @override
    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """Of tokens, targets and weights, (n, documents) each."""
        tokens, targets, weights = inputs
        logits = self.forward(tokens, params)
        losses = -(logits.log_softmax(dim=0) * one_hot(targets, logits)).sum(dim=0)
        return (losses * weights).sum(), logits.permute(2, 1, 0)

    @override
    def forward(self, tokens: Tensor, params: dict[str, Tensor]) -> Tensor:
        """The logits, (vocab_size, n, documents), of tokens (n, documents)."""
        positions = torch.arange(len(tokens), device=tokens.device)[:, None]
        x = rmsnorm(embedding(params["wte"], tokens) + embedding(params["wpe"], positions))
        for i in range(self.config.n_layer):
            x = self.layer(x, layer_weights(params, i))
        return linear(params["lm_head"], x)

    @override
    def layer(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        """Attention and MLP, each added to what it was given: (n_embd, n, documents)."""
        x = x + linear(w["attn_wo"], self.attention(rmsnorm(x), w))
        return x + linear(w["mlp_fc2"], activate(linear(w["mlp_fc1"], rmsnorm(x)), self.config))

    @override
    def attention(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        """What the heads of a layer gather, one below another: (n_embd, n, documents)."""
        n, config = x.shape[1], self.config
        weights = torch.cat([w[f"attn_w{letter}"] for letter in "qkv"])
        q, k, v = linear(weights, x).unflatten(0, (3, config.n_head, config.head_dim)).unbind()
        scores = (q[:, :, :, None] * k[:, :, None]).sum(dim=1) / config.head_dim**0.5  # (n_head, n, n, documents)
        future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        attention = scores.masked_fill(future[:, :, None], float("-inf")).softmax(dim=2)
        return (attention[:, None] * v[:, :, None]).sum(dim=3).flatten(0, 1)


make = DocumentsLast
