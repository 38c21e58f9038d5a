"""Fully sharded: every rank keeps a shard of each parameter, gradient and moment, put together where it is needed."""

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from parity.ladder.parallel import single
from parity.ladder.parallel.uneven_data_parallel import loss, own
from parity.training import Training


def make(dtype="float32", device="cpu"):
    """The training of one rank. The norm by which gradients are clipped is that of all shards: they are DTensors."""
    model = single.model(dtype, device)
    mesh = init_device_mesh(torch.device(device).type, (get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [own(documents) for documents in single.batches(device=device)]
    return Training(model, optimizer, loss, batches, clip_grad_norm=0.5, ranks_loss="mean")
