"""Activation checkpointing: of every layer only the input is kept, and the rest computed again in backward.

Builds on `fused_adam`. It is memory for time: what a layer holds for backward exists for one layer at a time.
"""

from torch import Tensor
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from torch_twin.fused_adam import FusedAdam


class Checkpointing(FusedAdam):
    """Nothing in a layer is random, so there is no random state to restore."""

    @override
    def layer(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        return checkpoint(super().layer, x, w, mask, use_reentrant=False, preserve_rng_state=False)


make = Checkpointing
