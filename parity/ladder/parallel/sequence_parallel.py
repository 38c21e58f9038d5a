"""Sequence parallel: tensor parallel, and between the blocks every rank has some of the positions of all documents."""

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module

from parity.ladder.parallel import single
from parity.training import Training

POSITIONS = Shard(1)
"""Of what lies between the blocks, (documents, n, width)."""


def make(dtype="float32", device="cpu"):
    """The training of one rank, without clipping. Norms are of the rank's positions; their gradients are summed."""
    model = single.model(dtype, device)
    mesh = init_device_mesh(torch.device(device).type, (get_world_size(),))
    ends = {
        "wte": RowwiseParallel(input_layouts=Replicate(), output_layouts=POSITIONS),
        "wpe": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(0)),
        "norm": SequenceParallel(),
        "head": ColwiseParallel(input_layouts=POSITIONS, output_layouts=Replicate()),
    }
    plan = {name: ColwiseParallel(input_layouts=POSITIONS) for name in ("wq", "wk", "wv", "fc1")}
    plan |= {name: RowwiseParallel(output_layouts=POSITIONS) for name in ("wo", "fc2")}
    plan |= {name: SequenceParallel() for name in ("norm", "mlp_norm")}
    parallelize_module(model, mesh, ends)
    for block in model.blocks:
        parallelize_module(block, mesh, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    return Training(model, optimizer, single.loss, single.batches(device=device))
