"""Documents in batches: one matrix of tokens, a row for each document, filled up with padding that counts nothing.

Builds on `positions`. Padding follows the document, where the causal mask hides it from every position that counts; its
losses weigh 0. So a batch's loss is one weighted sum, whatever the lengths of its documents.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from torch_twin.positions import Positions


class Padded(Positions):
    """A loss weighs 1 / (positions of its document x documents): the mean of the documents' means is a plain sum."""

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[Any, ...]:
        """Tokens, targets and the weights of their losses, (documents, longest n) each."""
        return tuple(pad_sequence(parts, batch_first=True) for parts in zip(*self.documents(batch)))

    def documents(self, batch: Sequence[Sequence[int]]) -> list[tuple[Tensor, ...]]:
        """Of every document, (n,) each: tokens, targets, and what their losses weigh in the mean of means."""
        documents = super().prepare(batch)
        options = {"dtype": self.storage, "device": self.device}
        return [(*pair, torch.full(pair[0].shape, 1 / (len(pair[0]) * len(batch)), **options)) for pair in documents]

    @override
    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        tokens, targets, weights, *where = inputs
        logits = self.forward(tokens, params, *where)
        losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum(), logits


make = Padded
