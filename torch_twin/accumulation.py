"""Gradient accumulation: the batch in four parts, one after another, whose gradients add up before one update.

Builds on `fused_adam`. A part's loss is a mean over its own documents, so it counts as much as it has of them; parts
may be unequal.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from torch_twin.fused_adam import FusedAdam


class Accumulation(FusedAdam):
    """Backward adds to the gradients that the parts before have left in the leaves."""

    parts = 4

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> list[tuple[int, Any]]:
        """Of every part, how many documents it has, and its tensors."""
        size, prepare = -(-len(batch) // self.parts), super().prepare
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return [(len(part), prepare(part)) for part in parts]

    @override
    def backward(self, inputs: list[tuple[int, Any]], params: dict[str, Tensor]) -> Tensor:
        documents = sum(count for count, _ in inputs)
        losses, logits = [], []
        for count, part in inputs:
            loss, part_logits = self.loss(part, params)
            loss = loss * (count / documents)
            loss.backward()
            losses.append(loss.detach())
            logits.append(part_logits)
        self.logits = chain(*logits)
        return torch.stack(losses).sum()


make = Accumulation
