"""Accumulation over ranks: gradients of a step's batches add up on each, and the last backward alone averages them."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from parity.ladder.parallel import single
from parity.ladder.parallel.uneven_data_parallel import loss, own
from parity.training import Training


def step(model, optimizer, batches):
    """The mean of the batches' losses. Within no_sync, forward passes and backward, nothing is averaged over ranks."""
    optimizer.zero_grad()
    total = 0.0
    for number, batch in enumerate(batches, start=1):
        with nullcontext() if number == len(batches) else model.no_sync():
            mean = loss(model, batch) / len(batches)
            mean.backward()
        total += mean.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return total


def make(dtype="float32", device="cpu"):
    """The training of one rank; of one process it is `single.accumulated`."""
    model = DistributedDataParallel(single.model(dtype, device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [own(documents) for documents in single.batches(6, device=device)]
    return Training(model, optimizer, step=step, batches=list(zip(batches[::2], batches[1::2])), ranks_loss="mean")
