"""Documents packed: several share a row, each sees itself alone, and hardly anything is spent on padding.

Builds on `padded`, which fills every row up to the longest document. Which documents share a row is a matter of bin
packing; a mask keeps them apart, and each counts its positions from 0.

Attention within groups of documents of equal length would waste nothing at all, but calls a dozen small kernels where
this calls one, and was slower at every batch size measured; so was a list of all pairs of positions that attend.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from torch_twin.microgpt import DTYPES
from torch_twin.padded import Padded
from torch_twin.tools.bin_packing import best_fit_decreasing

GRAIN = 16
"""A row's length is a multiple of it, which fills the registers of today's CPUs with scores."""


class Packed(Padded):
    """The room that a row has left is filled with documents of one token each, whose losses weigh 0."""

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[Any, ...]:
        """Tokens, targets, weights and positions, (rows, n) each; the mask; and where every document starts."""
        documents = [(*parts, torch.arange(len(parts[0]), device=self.device)) for parts in self.documents(batch)]
        lengths = [len(tokens) for tokens, *_ in documents]
        rows = best_fit_decreasing(lengths, size=-(-max(lengths) // GRAIN) * GRAIN)
        *inputs, positions = (
            pad_sequence([torch.cat([parts[i] for i in row]) for row in rows], batch_first=True)
            for parts in zip(*documents)
        )
        starts, width = [0] * len(batch), positions.shape[1]
        for number, row in enumerate(rows):
            start = number * width
            for document in row:
                starts[document] = start
                start += lengths[document]
        return *inputs, positions, self.mask(positions), starts

    def mask(self, positions: Tensor) -> Tensor:
        """(rows, 1, n, n): 0 where a position may look, from its document's first one to itself, and -inf elsewhere."""
        column = torch.arange(positions.shape[1], device=positions.device)
        first = column - positions
        hidden = (column > column[:, None]) | (column < first[:, :, None])
        mask = torch.zeros(hidden.shape, dtype=DTYPES[self.dtype], device=positions.device)
        return mask.masked_fill(hidden, float("-inf"))[:, None]

    @override
    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        *inputs, starts = inputs
        loss, logits = super().loss(inputs, params)
        rows = logits.flatten(0, 1)
        return loss, (rows[start:] for start in starts)


make = Packed
