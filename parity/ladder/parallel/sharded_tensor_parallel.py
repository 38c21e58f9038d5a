"""Two techniques at once: tensor parallel over pairs of ranks, and each shard of it fully sharded over the others."""

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from parity.ladder.parallel import single
from parity.ladder.parallel.uneven_data_parallel import loss
from parity.training import Training


def make(dtype="float32", device="cpu"):
    """The training of one rank, without clipping; documents are dealt out to pairs of ranks, which have them alike."""
    model = single.model(dtype, device)
    mesh = init_device_mesh(
        torch.device(device).type, (get_world_size() // 2, 2), mesh_dim_names=("documents", "tensor")
    )
    plan = {name: ColwiseParallel() for name in ("wq", "wk", "wv", "fc1")}
    plan |= {name: RowwiseParallel() for name in ("wo", "fc2")}
    for block in model.blocks:
        parallelize_module(block, mesh["tensor"], plan)
        fully_shard(block, mesh=mesh["documents"])
    fully_shard(model, mesh=mesh["documents"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    pairs, pair = mesh["documents"].size(), mesh["documents"].get_local_rank()
    batches = [(d[pair::pairs], len(d[pair::pairs]) * pairs / len(d)) for d in single.batches(device=device)]
    return Training(model, optimizer, loss, batches, ranks_loss="mean")
