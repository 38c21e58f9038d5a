"""Uneven data parallel: DistributedDataParallel averages over ranks, but documents count alike, not ranks."""

import torch
from torch.distributed import get_rank, get_world_size
from torch.nn.parallel import DistributedDataParallel

from parity.ladder.parallel import single
from parity.training import Training


def own(documents):
    """This rank's documents, dealt out like cards, and what they count in the mean over ranks."""
    mine = documents[get_rank() :: get_world_size()]
    return mine, len(mine) * get_world_size() / len(documents)


def loss(model, batch):
    """The mean over ranks is to be the mean over all documents, of which ranks have unequally many."""
    documents, share = batch
    return single.loss(model, documents) * share


def make(dtype="float32", device="cpu"):
    """The training of one rank."""
    model = DistributedDataParallel(single.model(dtype, device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = [own(documents) for documents in single.batches(device=device)]
    return Training(model, optimizer, loss, batches, clip_grad_norm=0.5, ranks_loss="mean")
