"""Tensor parallel: every rank has all documents, and some heads and some hidden units of every block."""

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from parity.ladder.parallel import single
from parity.training import Training


def make(dtype="float32", device="cpu"):
    """The training of one rank. A block's inputs and outputs are whole on every rank; so is what is not named here.

    It clips nothing, as `single.unclipped`: torch takes no norm of DTensors and other tensors together.
    """
    model = single.model(dtype, device)
    mesh = init_device_mesh(torch.device(device).type, (get_world_size(),))
    plan = {name: ColwiseParallel() for name in ("wq", "wk", "wv", "fc1")}
    plan |= {name: RowwiseParallel() for name in ("wo", "fc2")}
    for block in model.blocks:
        parallelize_module(block, mesh, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    return Training(model, optimizer, single.loss, single.batches(device=device))
