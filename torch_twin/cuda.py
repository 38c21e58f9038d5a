"""A GPU: the whole step in kernels that Triton makes, the state in the GPU's memory, and float32 that is not TF32.

Builds on `whole_step`: the same graph, for which the compiler makes kernels of the GPU in place of C++.
"""

import torch

from reference.config import Config, Hyper
from torch_twin.whole_step import WholeStep


class Cuda(WholeStep):
    """Raises RuntimeError where there is no GPU."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cuda") -> None:
        if not torch.cuda.is_available():
            raise RuntimeError("This rung needs a CUDA device, and torch finds none.")
        super().__init__(config, hyper, dtype, device)
        torch.set_float32_matmul_precision("highest")


make = Cuda
