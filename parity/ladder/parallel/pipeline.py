"""Pipeline: every rank has some of the blocks, and microbatches go through all ranks, forward and back again."""

import torch
from torch import nn
from torch.distributed import get_rank, get_world_size
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.nn import functional

from parity.ladder.parallel import single
from parity.training import Training

MICROBATCHES = 2


class Stage(nn.Module):
    """This rank's part of the model, with the names that it has there."""

    def __init__(self, gpt, rank, ranks):
        super().__init__()
        self.first, self.last = rank == 0, rank == ranks - 1
        if self.first:
            self.wte, self.wpe = gpt.wte, gpt.wpe
        share = len(gpt.blocks) // ranks
        own = range(rank * share, (rank + 1) * share)
        self.blocks = nn.ModuleDict({str(i): gpt.blocks[i] for i in own})
        if self.last:
            self.norm, self.head = gpt.norm, gpt.head

    def forward(self, x):
        """x: (documents, n) tokens in the first stage, (documents, n, width) in others; the last one gives logits."""
        if self.first:
            x = self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks.values():
            x = block(x)
        return self.head(self.norm(x)) if self.last else x


def loss(logits, targets):
    """The mean over the documents of a microbatch, which are of one length."""
    return functional.cross_entropy(logits.transpose(1, 2), targets)


def batches(device="cpu"):
    """Documents of one length, in as many as microbatches can have alike."""
    generator = torch.Generator().manual_seed(2)
    return list(torch.randint(0, single.VOCABULARY, (2, 4, single.LENGTH + 1), generator=generator).to(device))


def step(model, optimizer, batch):
    """Forward and backward of all microbatches, the mean of whose losses counts; then each rank updates its part."""
    stage = PipelineStage(model, get_rank(), get_world_size(), batch.device)
    schedule = ScheduleGPipe(stage, MICROBATCHES, loss_fn=loss)
    optimizer.zero_grad()
    losses = []
    if model.first:
        schedule.step(batch[:, :-1])
    elif model.last:
        schedule.step(target=batch[:, 1:], losses=losses)
    else:
        schedule.step()
    optimizer.step()
    return torch.stack(losses).mean() if losses else None


def make(dtype="float32", device="cpu"):
    """The training of one rank."""
    model = Stage(single.model(dtype, device, layers=get_world_size()), get_rank(), get_world_size())
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=batches(device))


def of_one_process(dtype="float32", device="cpu"):
    """The training that two ranks are to be the same function as."""
    gpt = single.model(dtype, device, layers=2)
    return Training(gpt, torch.optim.AdamW(gpt.parameters(), lr=1e-2), single.loss, batches(device))
