"""Batches in chunks: documents of like length together, as many as fit the cache, one graph for all lengths.

Builds on `documents_last`, where a batch is one piece, padded to the block. Here it is cut up, which does three things:

- sorted by length, the documents of a chunk are about as long as each other, so there is hardly any padding;
- what a chunk computes on the way stays in the processor's cache until backward needs it;
- the gradients of the batch are the sum of those of its chunks, and Adam follows once, as in `accumulation`.

Chunks of unlike length would each need a graph of their own, so the length is marked as dynamic: the compiler makes
code that takes it as a number. The width is that of all chunks of a batch; the last one is filled up with documents
that count nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from reference.config import Config, Hyper
from torch_twin.documents_last import DocumentsLast
from torch_twin.tools.threads import threads

Chunk = tuple[Tensor, ...]
"""Tokens, targets and the weights of their losses, (n, documents) each."""


class Chunks(DocumentsLast):
    """What is compiled is forward and backward of one chunk."""

    width = 128
    """Documents in a chunk, at most."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.graph = self.compiled(self.differentiate, **{"cpp.threads": 1})

    def chunk_width(self, documents: int) -> int:
        """Documents in every chunk of a batch of so many."""
        return min(self.width, documents)

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[list[int], list[Chunk]]:
        """The documents' numbers from the longest on, and the chunks in this order."""
        documents = self.documents(batch)
        order = sorted(range(len(batch)), key=lambda i: len(documents[i][0]), reverse=True)
        width = self.chunk_width(len(batch))
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

    @override
    def update(self, inputs: tuple[list[int], list[Chunk]]) -> Tensor:
        order, chunks = inputs
        with threads(1):
            gradients, losses, logits = zip(*self.run(chunks))
            self.logits = in_order(order, logits)
            self.gradient = sum(gradients[1:], gradients[0])
            self.flat = self.adam(*self.flat, self.gradient)
            return sum(losses[1:], losses[0])

    def run(self, chunks: list[Chunk]) -> list[tuple[Tensor, ...]]:
        """What `differentiate` gives for every chunk: gradients, what it adds to the loss, and logits."""
        return [self.graph(self.flat[1], chunk) for chunk in chunks]


def in_order(order: list[int], logits: Sequence[Tensor]) -> Iterator[Tensor]:
    """The documents' logits in the order of the batch: of chunks, (width, n, vocab_size) each, in this order."""
    by_number = dict(zip(order, chain(*logits)))
    for number in range(len(order)):
        yield by_number[number]


make = Chunks
