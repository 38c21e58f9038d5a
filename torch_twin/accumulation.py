"""Gradient accumulation: the batch in four parts, one after another, whose gradients add up before one update."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reference.config import Config, Hyper
from torch_twin.fused_adam import FusedAdam


class Accumulation(FusedAdam):
    """A part's loss is a mean over its own documents, so it counts as much as it has of them; parts may be unequal."""

    parts = 4

    def prepare(self, batch: Sequence[Sequence[int]]) -> list[tuple[int, Any]]:
        """Of every part, how many documents it has, and its tensors."""
        size, prepare = -(-len(batch) // self.parts), super().prepare
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return [(len(part), prepare(part)) for part in parts]

    def backward(self, inputs: list[tuple[int, Any]], params: dict[str, Tensor]) -> Tensor:
        """The loss of the whole batch, with its gradients added up in the leaves."""
        documents = sum(count for count, _ in inputs)
        losses, self.logits = [], []
        for count, part in inputs:
            loss, logits = self.loss(part, params)
            loss = loss * (count / documents)
            loss.backward()
            losses.append(loss.detach())
            self.logits.append(logits)
        return torch.stack(losses).sum()

    def document_logits(self, lengths: Sequence[int]) -> list[Tensor]:
        """The logits of the latest update, (n, vocab_size) for every document."""
        places = [(logits.detach().flatten(0, 1), start) for logits, starts in self.logits for start in starts]
        return [rows[start : start + n] for (rows, start), n in zip(places, lengths)]


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> Accumulation:
    """The subject `torch_twin.accumulation:make`."""
    return Accumulation(config, hyper, dtype, device)
