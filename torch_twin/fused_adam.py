"""Adam in one kernel: torch.optim.Adam(fused=True), which reads and writes every element once."""

from reference.config import Config, Hyper
from torch_twin.foreach_adam import ForeachAdam


class FusedAdam(ForeachAdam):
    """The same state, another kernel."""

    kind = "fused"


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> FusedAdam:
    """The subject `torch_twin.fused_adam:make`."""
    return FusedAdam(config, hyper, dtype, device)
