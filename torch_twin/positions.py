"""All positions of a document at once: one matrix product for all of them, and a causal mask in place of the cache.

Builds on `microgpt`, whose activation and Adam it uses. All tokens of a document are known in training, so positions do
not wait for each other; what a position must not see yet, the mask hides.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from reference.config import Config, Hyper, State, Step
from torch_twin.microgpt import DTYPES, activate, adam, gradient


def linear(x: Tensor, w: Tensor) -> Tensor:
    """x: (..., columns), w: (rows, columns)."""
    return x @ w.T


def layer_weights(params: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """The matrices of layer i by their names within it: `attn_wq` and so on."""
    return {name.partition(".")[2]: matrix for name, matrix in params.items() if name.startswith(f"layer{i}.")}


def rmsnorm(x: Tensor) -> Tensor:
    """Of every vector in the last dimension."""
    return x * ((x * x).mean(dim=-1, keepdim=True) + 1e-5) ** -0.5


class Positions:
    """The subject, and the base of the rungs above it: each overrides the part that its technique changes.

    A step has two parts. `prepare` makes tensors of the documents, which training would do once for all epochs;
    `update` is the training step itself, which is what a ladder times. It leaves the gradients in `grads`, and in
    `logits` whatever gives the logits document after document when it is gone through, which only `train_step` does.
    """

    default_dtype = "float64"
    logits: Iterable[Tensor]
    """The logits of the latest update: of every document, at least as many rows as it has positions."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        dtype = dtype or self.default_dtype
        if dtype not in DTYPES:
            raise ValueError(f"The rung computes in {', '.join(DTYPES)}, not in {dtype!r}.")
        self.config, self.hyper, self.dtype, self.device = config, hyper, dtype, device
        self.storage = DTYPES[dtype]  # of weights and moments

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        options = {"dtype": self.storage, "device": self.device}
        params, m, v = (
            {name: torch.tensor(matrix, **options) for name, matrix in matrices.items()}
            for matrices in (state.params, state.m, state.v)
        )
        self.state = State(params, m, v, state.step)

    def prepare(self, batch: Sequence[Sequence[int]]) -> list[tuple[Tensor, Tensor]]:
        """Tokens and targets of every document, (n,) each."""
        documents = [torch.tensor(tokens[: self.config.block_size + 1], device=self.device) for tokens in batch]
        return [(tokens[:-1], tokens[1:]) for tokens in documents]

    def update(self, inputs: Any) -> Tensor:
        """Forward, backward and Adam; the loss."""
        params = self.leaves()
        loss = self.backward(inputs, params)
        self.grads = {name: gradient(matrix) for name, matrix in params.items()}
        self.descend()
        return loss

    def leaves(self) -> dict[str, Tensor]:
        """The weights, as leaves of a graph that is still to be made, and without gradients."""
        return {name: matrix.detach().requires_grad_() for name, matrix in self.state.params.items()}

    def backward(self, inputs: Any, params: dict[str, Tensor]) -> Tensor:
        """The loss, with its gradients left in the leaves."""
        loss, self.logits = self.loss(inputs, params)
        loss.backward()
        return loss.detach()

    def descend(self) -> None:
        """Make the state after the update out of the gradients."""
        self.state = adam(self.state, self.grads, self.hyper)

    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """The mean of the documents' losses, and their logits as `logits` says."""
        logits = [self.forward(tokens, params) for tokens, _ in inputs]
        losses = [
            -rows.log_softmax(dim=-1).gather(-1, targets[:, None]).mean() for rows, (_, targets) in zip(logits, inputs)
        ]
        return torch.stack(losses).mean(), logits

    def forward(
        self, tokens: Tensor, params: dict[str, Tensor], positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The logits, (..., n, vocab_size), of tokens (..., n).

        positions: as the tokens; None for 0 to n - 1. mask: what is added to the scores, as in `attention`.
        """
        x = rmsnorm(params["wte"][tokens] + params["wpe"][slice(tokens.shape[-1]) if positions is None else positions])
        for i in range(self.config.n_layer):
            x = self.layer(x, layer_weights(params, i), mask)
        return linear(x, params["lm_head"])

    def layer(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Attention and MLP, each added to what it was given: (..., n, n_embd)."""
        x = x + linear(self.attention(rmsnorm(x), w, mask), w["attn_wo"])
        return x + linear(activate(linear(rmsnorm(x), w["mlp_fc1"]), self.config), w["mlp_fc2"])

    def attention(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """What the heads of a layer gather, side by side: (..., n, n_embd).

        mask: added to the scores (..., n_head, n, n), -inf where a position must not look; None hides the future.
        """
        q, k, v = (self.split_heads(linear(x, w[f"attn_w{letter}"])) for letter in "qkv")
        scores = q @ k.transpose(-1, -2) / self.config.head_dim**0.5
        if mask is None:
            mask = torch.full(scores.shape[-2:], float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        weights = (scores + mask).softmax(dim=-1)
        return (weights @ v).transpose(-2, -3).flatten(-2)

    def split_heads(self, x: Tensor) -> Tensor:
        """(..., n, n_embd) as (..., n_head, n, head_dim)."""
        return x.unflatten(-1, (self.config.n_head, self.config.head_dim)).transpose(-2, -3)

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, and all that it computed."""
        loss = self.update(self.prepare(batch))
        after = self.state
        return Step(loss.item(), self.document_logits(batch), self.grads, after.params, after.m, after.v)

    def document_logits(self, batch: Sequence[Sequence[int]]) -> list[Tensor]:
        """The logits of the latest update, (n, vocab_size) for every document of the batch that it was made on."""
        lengths = [min(self.config.block_size, len(tokens) - 1) for tokens in batch]
        return [rows[:n].detach() for rows, n in zip(self.logits, lengths)]


make = Positions
