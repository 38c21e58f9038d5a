"""Trainings over ranks with one mistake each, of a model small enough for tests; and right ones beside them."""

import os
import signal
import sys
import time
from contextlib import nullcontext

import torch
from torch import nn
from torch.distributed import ReduceOp, all_reduce, get_rank, get_world_size
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from parity.training import Training


class Model(nn.Module):
    """A norm between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).tanh())


def seeded(dtype, seed=1):
    torch.manual_seed(seed)
    return Model().to(getattr(torch, dtype))


def documents(dtype, number=5):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(number, 7, generator=generator).to(getattr(torch, dtype)) for _ in range(2)]


def mean_loss(model, batch):
    """batch: (documents, 7), inputs beside targets."""
    return (model(batch[:, :4]) - batch[:, 4:]).square().mean()


def training(model, loss=mean_loss, batches=(), **options):
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), loss, batches, **options)


def single(dtype="float32"):
    return training(seeded(dtype), batches=documents(dtype))


def single_of_four(dtype="float32"):
    """Documents that ranks have equally many of, in two batches that a step accumulates."""
    return training(seeded(dtype), batches=[part for d in documents(dtype, 8) for part in d.split(4)], accumulation=2)


def single_clipped(dtype="float32"):
    return training(seeded(dtype), batches=documents(dtype), clip_grad_norm=0.1)


def own(batch):
    """This rank's documents, and what they count in the mean over ranks."""
    mine = batch[get_rank() :: get_world_size()]
    return mine, len(mine) * get_world_size() / len(batch)


def shared_loss(model, batch):
    return mean_loss(model, batch[0]) * batch[1]


def reduced(model, *, by=1.0, weighted=True, seed=1, dtype="float32", only=lambda name: True):
    """Own averages, as people write them: all_reduce after backward, in a step of one's own. by: a factor too many."""

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = shared_loss(model, batch) if weighted else mean_loss(model, batch[0])
        loss.backward()
        for name, param in model.named_parameters():
            if only(name):
                all_reduce(param.grad, ReduceOp.SUM)
                param.grad *= by / get_world_size()
        optimizer.step()
        return loss

    return Training(
        model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=[own(d) for d in documents(dtype)]
    )


def right(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype)


def frozen(model):
    model.norm.bias.requires_grad_(False)
    return model


def single_frozen(dtype="float32"):
    return training(frozen(seeded(dtype)), batches=documents(dtype))


def wrapped(dtype="float32"):
    """A layer that is computed anew in backward, and a parameter that nobody trains, beneath what averages."""
    model = frozen(seeded(dtype))
    model.first = checkpoint_wrapper(model.first)
    return training(DistributedDataParallel(model), shared_loss, [own(d) for d in documents(dtype)])


def not_reduced(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, weighted=False, only=lambda name: False)


def one_not_reduced(dtype="float32"):
    """As of a parameter that was added after the list of those to be reduced was made."""
    return reduced(seeded(dtype), dtype=dtype, only=lambda name: name != "norm.weight")


def summed(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, by=get_world_size())


def divided_twice(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, by=1 / get_world_size())


def averaged_by_rank(dtype="float32"):
    """The ranks' means count alike, though the ranks have unequally many documents."""
    model = DistributedDataParallel(seeded(dtype))
    return training(model, batches=[own(d)[0] for d in documents(dtype)])


def same_documents(dtype="float32"):
    """Each rank takes the first one's share, as without a sampler that knows of ranks."""
    model = DistributedDataParallel(seeded(dtype))
    return training(model, batches=[d[:: get_world_size()] for d in documents(dtype)])


def other_weights(dtype="float32"):
    return reduced(seeded(dtype, seed=get_rank()), dtype=dtype)


def not_broadcast(dtype="float32"):
    """Every rank updates some of the parameters, and the others are not told."""
    model = DistributedDataParallel(seeded(dtype))
    mine = list(model.parameters())[get_rank() :: get_world_size()]
    batches = [own(d) for d in documents(dtype)]
    return Training(model, torch.optim.AdamW(mine, lr=1e-2), shared_loss, batches)


def accumulated(dtype, synchronised):
    """Two batches a step, reduced where `synchronised` says so."""

    def step(model, optimizer, batches):
        optimizer.zero_grad()
        for k, batch in enumerate(batches):
            with nullcontext() if synchronised(k) else model.no_sync():
                (mean_loss(model, batch) / 2).backward()
        optimizer.step()

    model = DistributedDataParallel(seeded(dtype))
    batches = [[own(part)[0] for part in d.split(4)] for d in documents(dtype, 8)]
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=batches)


def no_sync_but_at_last(dtype="float32"):
    return accumulated(dtype, lambda k: k == 1)


def no_sync_at_last(dtype="float32"):
    return accumulated(dtype, lambda k: k == 0)


def never_in_sync(dtype="float32"):
    return accumulated(dtype, lambda k: False)


def sharded(dtype, clip):
    """fully_shard; clip: what clips the gradients of this rank's shards."""

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = shared_loss(model, batch)
        loss.backward()
        clip(model)
        optimizer.step()
        return loss

    model = seeded(dtype)
    fully_shard(model, mesh=init_device_mesh("cpu", (get_world_size(),)))
    return Training(
        model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=[own(d) for d in documents(dtype)]
    )


def clipped(dtype="float32"):
    return sharded(dtype, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1))


def clipped_by_shard(dtype="float32"):
    def clip(model):
        shards = [param.grad.to_local() for param in model.parameters()]
        norm = torch.stack([shard.norm() for shard in shards]).norm()
        for shard in shards:
            shard *= min(1.0, 0.1 / (norm.item() + 1e-6))

    return sharded(dtype, clip)


def not_clipped(dtype="float32"):
    return sharded(dtype, lambda model: None)


def failing(what):
    """What one rank does in the midst of a step, while the other one waits for it."""

    def loss(model, batch):
        if get_rank() == 1:
            what()
        return mean_loss(model, batch)

    return training(DistributedDataParallel(seeded("float64")), loss, [own(d)[0] for d in documents("float64")])


def dies():
    def die():
        sys.stderr.write("about to die\n")
        os.kill(os.getpid(), signal.SIGKILL)

    return failing(die)


def raises():
    def fail():
        raise ValueError("the loader has no documents left")

    return failing(fail)


def hangs():
    return failing(lambda: time.sleep(1000))


def makes_its_own_group():
    torch.distributed.init_process_group("gloo")
    return right()


def out_of_step():
    """Rank 1 takes part in fewer reductions than rank 0."""

    def loss(model, batch):
        if get_rank() == 0:
            all_reduce(torch.zeros(1))
        return mean_loss(model, batch)

    return training(seeded("float64"), loss, [own(d)[0] for d in documents("float64")])


def single_in_float64():
    return single("float64")


def right_in_float32():
    return right()


def reduced_in_bfloat16(dtype="float32"):
    """In float32 gradients are rounded before they are averaged, as a compression hook would."""

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        shared_loss(model, batch).backward()
        for param in model.parameters():
            if dtype == "float32":
                param.grad = param.grad.bfloat16().float()
            all_reduce(param.grad, ReduceOp.SUM)
            param.grad /= get_world_size()
        optimizer.step()

    model = seeded(dtype)
    batches = [own(d) for d in documents(dtype)]
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=batches)


def rounded_apart(dtype="float32"):
    """Rank 1 has the last bit of every gradient otherwise, as after a reduction in another order; no mistake yet."""
    made = reduced(seeded(dtype), dtype=dtype)

    def apart(optimizer, args, kwargs):
        if get_rank() == 1:
            for param in made.model.parameters():
                param.grad *= 1 + torch.finfo(param.dtype).eps

    made.optimizer.register_step_pre_hook(apart)
    return made


def rounded_apart_and_not_updated(dtype="float32"):
    """The same, and rank 1 leaves a parameter as it was."""
    made = rounded_apart(dtype)
    bias = made.model.last.bias

    def before(optimizer, args, kwargs):
        made.kept = bias.detach().clone()

    def after(optimizer, args, kwargs):
        if get_rank() == 1:
            bias.data.copy_(made.kept)

    made.optimizer.register_step_pre_hook(before)
    made.optimizer.register_step_post_hook(after)
    return made
