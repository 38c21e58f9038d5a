"""Activation checkpointing: of every layer only the input is kept, and the rest computed again in backward."""

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reference.config import Config, Hyper
from torch_twin.fused_adam import FusedAdam


class Checkpointing(FusedAdam):
    """Memory for time: what a layer holds for backward exists for one layer at a time."""

    def layer(self, x: Tensor, w: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Attention and MLP, each added to what it was given: (..., n, n_embd)."""
        # Nothing in a layer is random, so there is no random state to restore.
        return checkpoint(super().layer, x, w, mask, use_reentrant=False, preserve_rng_state=False)


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> Checkpointing:
    """The subject `torch_twin.checkpointing:make`."""
    return Checkpointing(config, hyper, dtype, device)
