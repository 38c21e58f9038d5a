"""Reduction in bfloat16: gradients are rounded to half the bits before ranks exchange them, and summed in those."""

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from parity.ladder.parallel import single
from parity.ladder.parallel.uneven_data_parallel import loss, own
from parity.training import Training


def make(dtype="float32", device="cpu"):
    """The training of one rank, fully sharded. In float64 nothing is rounded: its function is seen in full."""
    model = single.model(dtype, device)
    mesh = init_device_mesh(torch.device(device).type, (get_world_size(),))
    short = "bfloat16" if dtype == "float32" else None
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=getattr(torch, short) if short else None))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [own(documents) for documents in single.batches(device=device)]
    return Training(model, optimizer, loss, batches, clip_grad_norm=0.5, ranks_loss="mean", reduces_in=short)
