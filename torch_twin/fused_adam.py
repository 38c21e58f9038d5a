"""Adam in one kernel: torch.optim.Adam(fused=True), which reads and writes every element once.

Builds on `foreach_adam`, whose lists are gone through once for each operation.
"""

from torch_twin.foreach_adam import ForeachAdam


class FusedAdam(ForeachAdam):
    """The same state, another kernel."""

    kind = "fused"


make = FusedAdam
