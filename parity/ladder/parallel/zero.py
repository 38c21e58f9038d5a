"""ZeRO-1: data parallel, and every rank keeps Adam's moments of some parameters and updates those for all ranks."""

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from parity.ladder.parallel import single
from parity.ladder.parallel.uneven_data_parallel import loss, own
from parity.training import Training


def make(dtype="float32", device="cpu"):
    """The training of one rank."""
    model = DistributedDataParallel(single.model(dtype, device))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-2)
    batches = [own(documents) for documents in single.batches(device=device)]
    return Training(model, optimizer, loss, batches, clip_grad_norm=0.5, ranks_loss="mean")
