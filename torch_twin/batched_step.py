"""Batches in chunks: documents of like length side by side, as many as fit the cache, and a thread for each core."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from reference.config import Config, Hyper
from torch_twin.compiled import allow_many_graphs
from torch_twin.microgpt import activate
from torch_twin.positions import layer_weights
from torch_twin.whole_step import WholeStep, threads


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

    As a product, for then backward is one, too, and need not add to scattered rows, which is slow.
    """
    return linear(w.T, one_hot(numbers, w))


def keep_to_itself() -> None:
    """Have torch start no threads from this one, in which it may compile."""
    allow_many_graphs()
    torch.get_num_threads()  # makes torch look up its default now; later, that would undo the next line
    torch.set_num_threads(1)


class BatchedStep(WholeStep):
    """Everything lies with the document innermost: (features, position, document).

    So matrix products are wide, whatever is done to a vector or a row of scores is done to many documents in one
    instruction, and heads as small as 4 by n need no products of their own. The gradients of a batch are the sum of
    those of its chunks.
    """

    width = 128
    """Documents in a chunk, at most."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.graph = self.compiled(self.differentiate, **{"cpp.threads": 1})
        self.threads = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.threads, initializer=keep_to_itself)
        self.widths: set[int] = set()

    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[Tensor, ...]]]:
        """The documents' numbers from the longest on, and chunks: tokens, targets and weights, (n, documents) each."""
        documents = self.documents(batch)
        order = sorted(range(len(batch)), key=lambda i: len(documents[i][0]), reverse=True)
        width = min(self.width, -(-len(batch) // self.threads))
        chunks = [[documents[i] for i in order[start : start + width]] for start in range(0, len(batch), width)]
        return order, [tuple(self.filled(parts, width) for parts in zip(*chunk)) for chunk in chunks]

    def filled(self, parts: Sequence[Tensor], width: int) -> Tensor:
        """One column for each document and up to width, and at least two rows, if the block has two."""
        columns = pad_sequence(parts)
        n = max(len(columns), min(2, self.config.block_size))
        columns = pad(columns, (0, width - len(parts), 0, n - len(columns)))
        if n > 1:
            # One graph for all lengths; 0 and 1 are no lengths to torch but special cases.
            torch._dynamo.mark_dynamic(columns, 0)
        return columns

    def update(self, inputs: tuple[list[int], list[tuple[Tensor, ...]]]) -> Tensor:
        """Forward, backward and Adam; the loss."""
        order, chunks = inputs
        gradients, losses, logits = zip(*self.run(chunks))
        self.logits = order, logits
        with threads(1):
            self.gradient = sum(gradients[1:], gradients[0])
            self.flat = self.adam(*self.flat, self.gradient)
            return sum(losses[1:], losses[0])

    def run(self, chunks: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """What `differentiate` gives for every chunk; the graph lets go of Python's lock while it runs."""
        vector, width = self.flat[1], chunks[0][0].shape[1]
        if width not in self.widths:
            self.pool.submit(self.graph, vector, chunks[0]).result()  # or all threads would compile the same
            self.widths.add(width)
        return list(self.pool.map(lambda chunk: self.graph(vector, chunk), chunks))

    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """What a chunk adds to the loss, and its logits, (vocab_size, n, documents)."""
        tokens, targets, weights = inputs
        logits = self.forward(tokens, params)
        losses = -(logits.log_softmax(dim=0) * one_hot(targets, logits)).sum(dim=0)
        return (losses * weights).sum(), logits

    def forward(self, tokens: Tensor, params: dict[str, Tensor]) -> Tensor:
        """The logits, (vocab_size, n, documents), of tokens (n, documents)."""
        positions = torch.arange(len(tokens), device=tokens.device)[:, None]
        x = rmsnorm(embedding(params["wte"], tokens) + embedding(params["wpe"], positions))
        for i in range(self.config.n_layer):
            x = self.layer(x, layer_weights(params, i))
        return linear(params["lm_head"], x)

    def layer(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        """Attention and MLP, each added to what it was given: (n_embd, n, documents)."""
        x = x + linear(w["attn_wo"], self.attention(rmsnorm(x), w))
        return x + linear(w["mlp_fc2"], activate(linear(w["mlp_fc1"], rmsnorm(x)), self.config))

    def attention(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        """What the heads of a layer gather, one below another: (n_embd, n, documents)."""
        n, config = x.shape[1], self.config
        weights = torch.cat([w[f"attn_w{letter}"] for letter in "qkv"])
        q, k, v = linear(weights, x).unflatten(0, (3, config.n_head, config.head_dim)).unbind()
        scores = (q[:, :, :, None] * k[:, :, None]).sum(dim=1) / config.head_dim**0.5  # (n_head, n, n, documents)
        future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        attention = scores.masked_fill(future[:, :, None], float("-inf")).softmax(dim=2)
        return (attention[:, None] * v[:, :, None]).sum(dim=3).flatten(0, 1)

    def document_logits(self, lengths: Sequence[int]) -> list[Tensor]:
        """The logits of the latest update, (n, vocab_size) for every document."""
        order, chunks = self.logits
        columns = [column for logits in chunks for column in logits.permute(2, 1, 0)]
        return [columns[order.index(i)][:n] for i, n in enumerate(lengths)]


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> BatchedStep:
    """The subject `torch_twin.batched_step:make`."""
    return BatchedStep(config, hyper, dtype, device)
