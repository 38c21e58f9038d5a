"""bfloat16 autocast: matrix products in bfloat16, weights, moments and sums in float32.

Builds on `whole_step`. The weights stay in float32: in bfloat16, most updates would be lost in rounding.
"""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import Config, Hyper
from torch_twin.whole_step import WholeStep


class BFloat16(WholeStep):
    """Asked for another format than bfloat16, it computes in that one throughout."""

    default_dtype = "bfloat16"

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.mixed = self.dtype == "bfloat16"
        if self.mixed:
            self.storage = torch.float32

    @override
    def loss(self, inputs: Any, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        with torch.autocast(params["wte"].device.type, torch.bfloat16, enabled=self.mixed):
            return super().loss(inputs, params)


make = BFloat16
