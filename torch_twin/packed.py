"""Documents packed: several share a row, each sees itself alone, and hardly anything is spent on padding.

Attention within groups of documents of equal length would waste nothing at all, but calls a dozen small kernels where
this calls one, and was slower at every batch size measured; so was a list of all pairs of positions that attend.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from reference.config import Config, Hyper
from torch_twin.microgpt import DTYPES
from torch_twin.padded import Padded

GRAIN = 16
"""A row's length is a multiple of it, which fills the registers of today's CPUs with scores."""


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """The documents of every row, by number.

    Longest first, each goes where it leaves the least room (best fit decreasing); a row holds the longest one.
    """
    size = -(-max(lengths) // GRAIN) * GRAIN
    rows: list[list[int]] = []
    with_room: list[list[list[int]]] = [[] for _ in range(size + 1)]
    for document in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        n = lengths[document]
        room = next((room for room in range(n, size) if with_room[room]), size)
        if room == size:
            rows.append([])
            with_room[size].append(rows[-1])
        row = with_room[room].pop()
        row.append(document)
        with_room[room - n].append(row)
    return rows


class Packed(Padded):
    """The room that a row has left is filled with documents of one token each, whose losses weigh 0."""

    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[Any, ...]:
        """Tokens, targets, weights and positions, (rows, n) each; the mask; and where every document starts."""
        documents = [(*parts, torch.arange(len(parts[0]), device=self.device)) for parts in self.documents(batch)]
        lengths = [len(tokens) for tokens, *_ in documents]
        rows = packed(lengths)
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

    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """The mean of the documents' losses; the logits, row by row, and where every document starts in them."""
        *inputs, starts = inputs
        loss, logits = super().loss(inputs, params)
        return loss, (logits, starts)

    def document_logits(self, lengths: Sequence[int]) -> list[Tensor]:
        """The logits of the latest update, (n, vocab_size) for every document."""
        logits, starts = self.logits
        rows = logits.detach().flatten(0, 1)
        return [rows[start : start + n] for start, n in zip(starts, lengths)]


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> Packed:
    """The subject `torch_twin.packed:make`."""
    return Packed(config, hyper, dtype, device)
