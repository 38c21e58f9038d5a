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
from torch.distributed.nn import functional
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
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


def reduced(model, *, by=1.0, weighted=True, dtype="float32", only=lambda name: True, clip=None, **options):
    """Own averages, as people write them: all_reduce after backward, in a step of one's own. by: a factor too many."""

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = shared_loss(model, batch) if weighted else mean_loss(model, batch[0])
        loss.backward()
        for name, param in model.named_parameters():
            if only(name):
                all_reduce(param.grad, ReduceOp.SUM)
                param.grad *= by / get_world_size()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return Training(model, optimizer, step=step, batches=[own(d) for d in documents(dtype)], **options)


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


def summed_and_clipped(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, by=get_world_size(), clip=0.1)


def summed_and_clipped_in_float32():
    return summed_and_clipped()


def single_clipped_in_float32():
    return single_clipped()


def divided_twice_and_clipped(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, by=1 / get_world_size(), clip=0.1)


def scaled_and_clipped(dtype="float32"):
    """By a factor that ranks do not explain, as of a loss scale not taken back before (pytorch/examples#1196)."""
    return reduced(seeded(dtype), dtype=dtype, by=1024.0, clip=0.1)


def divided_twice(dtype="float32"):
    return reduced(seeded(dtype), dtype=dtype, by=1 / get_world_size())


def averaged_by_rank(dtype="float32"):
    """The ranks' means count alike, though the ranks have unequally many documents (pytorch/torchtitan#2206)."""
    model = DistributedDataParallel(seeded(dtype))
    return training(model, batches=[own(d)[0] for d in documents(dtype)])


def same_documents(dtype="float32"):
    """Each rank takes the first one's share, as without a sampler that knows of ranks."""
    model = DistributedDataParallel(seeded(dtype))
    return training(model, batches=[d[:: get_world_size()] for d in documents(dtype)])


def not_dealt_out(dtype="float32"):
    """Every rank takes all documents: right, and of no use."""
    return training(DistributedDataParallel(seeded(dtype)), batches=documents(dtype))


def loss_of_its_own(dtype="float32"):
    """The gradients are right, and what a rank calls the loss is that of its documents."""
    return training(DistributedDataParallel(seeded(dtype)), reported(mean_loss), [own(d) for d in documents(dtype)])


def loss_without_a_number(dtype="float32"):
    """The gradients are right, and what a rank calls the loss is none."""

    def of(model, batch):
        return mean_loss(model, batch) * float("nan")

    return training(DistributedDataParallel(seeded(dtype)), reported(of), [own(d) for d in documents(dtype)])


def loss_declared_as_mean(dtype="float32"):
    made = loss_of_its_own(dtype)
    made.ranks_loss = "mean"
    return made


def loss_weighed_by_documents(dtype="float32"):
    made = loss_of_its_own(dtype)
    made.ranks_loss = lambda batch: len(batch[0])
    return made


def reported(of):
    """A loss whose gradient is the shared one's, and whose value is another one's."""

    def loss(model, batch):
        counted = shared_loss(model, batch)
        with torch.no_grad():
            shown = of(model.module, batch[0])
        return counted + (shown - counted).detach()

    return loss


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


def sync_flag_after_forward(dtype="float32"):
    """DistributedDataParallel decides in forward whether backward reduces (karpathy/build-nanogpt#30)."""

    def step(model, optimizer, batches):
        optimizer.zero_grad()
        for k, batch in enumerate(batches):
            loss = mean_loss(model, batch) / 2
            model.require_backward_grad_sync = k == len(batches) - 1
            loss.backward()
        optimizer.step()

    made = accumulated(dtype, lambda k: True)
    return Training(made.model, made.optimizer, step=step, batches=made.batches)


def no_sync_but_at_last(dtype="float32"):
    return accumulated(dtype, lambda k: k == 1)


def no_sync_at_last(dtype="float32"):
    """The last batch's gradient is left unreduced (deepspeedai/DeepSpeed#7985)."""
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
    def hang():
        sys.stderr.write("waiting for the loader\n")
        time.sleep(1000)

    return failing(hang)


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


def reduced_in(short, declared, dtype):
    """In float32 gradients are rounded before they are averaged, as a compression hook would."""

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        shared_loss(model, batch).backward()
        for param in model.parameters():
            if dtype == "float32":
                param.grad = param.grad.to(short).float()
            all_reduce(param.grad, ReduceOp.SUM)
            param.grad /= get_world_size()
        optimizer.step()

    model = seeded(dtype)
    batches = [own(d) for d in documents(dtype)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return Training(model, optimizer, step=step, batches=batches, reduces_in=declared)


def reduced_in_bfloat16(dtype="float32"):
    return reduced_in(torch.bfloat16, None, dtype)


def reduced_in_bfloat16_as_declared(dtype="float32"):
    return reduced_in(torch.bfloat16, "bfloat16", dtype)


def reduced_in_float8_and_declared_as_bfloat16(dtype="float32"):
    return reduced_in(torch.float8_e4m3fn, "bfloat16", dtype)


def accumulated_in_bfloat16(dtype="float32"):
    """Two batches add up in it, and are reduced in float32 (deepspeedai/DeepSpeed#1800)."""

    def step(model, optimizer, batches):
        optimizer.zero_grad()
        sums = [torch.zeros_like(param) for param in model.parameters()]
        for batch in batches:
            found = torch.autograd.grad(mean_loss(model, batch) / len(batches), list(model.parameters()))
            for total, grad in zip(sums, found):
                total += grad
                if dtype == "float32":
                    total.copy_(total.bfloat16())
        for param, total in zip(model.parameters(), sums):
            all_reduce(total)
            param.grad = total / get_world_size()
        optimizer.step()

    model = seeded(dtype)
    batches = [[own(part)[0] for part in d.split(4)] for d in documents(dtype, 8)]
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=batches)


class Tied(nn.Module):
    """One weight at both ends. ends: those that a gradient is wanted of."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(4, 6, bias=False).weight

    def forward(self, x, ends=("first", "last")):
        first, last = (self.weight if end in ends else self.weight.detach() for end in ("first", "last"))
        return (x @ first.T).tanh() @ last[:, :3]


def tied(dtype):
    torch.manual_seed(1)
    return Tied().to(getattr(torch, dtype))


def single_tied(dtype="float32"):
    return training(tied(dtype), batches=documents(dtype, 4))


def tied_gradients_mix(dtype="float32"):
    """The first end's gradient is reduced before the last end's is added to it (NVIDIA/Megatron-LM#844)."""

    def step(model, optimizer, batch):
        first, last = (
            torch.autograd.grad((model(batch[:, :4], end) - batch[:, 4:]).square().mean(), model.weight)[0]
            for end in ("first", "last")
        )
        all_reduce(first)
        model.weight.grad = first / get_world_size() + last
        optimizer.step()

    model = tied(dtype)
    batches = [own(d)[0] for d in documents(dtype, 4)]
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-2), step=step, batches=batches)


class SplitNorm(nn.Module):
    """The root mean square over a width of which every rank knows the squares of a part. count: how many they are."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        own_part = x.chunk(get_world_size(), -1)[get_rank()]
        squares = functional.all_reduce(own_part.square().sum(-1, keepdim=True))
        return x * (squares / self.count + 1e-5) ** -0.5


def normed(norm, dtype):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 3)).to(getattr(torch, dtype))


def single_normed(dtype="float32"):
    return training(normed(nn.RMSNorm(6, 1e-5, elementwise_affine=False), dtype), batches=documents(dtype))


def split_norm(dtype="float32"):
    return training(DistributedDataParallel(normed(SplitNorm(6), dtype)), batches=documents(dtype))


def split_norm_of_sums(dtype="float32"):
    """The squares are summed over the ranks, and not divided by their number (tenstorrent/tt-mlir#8798)."""
    return training(DistributedDataParallel(normed(SplitNorm(1), dtype)), batches=documents(dtype))


class Fused(nn.Module):
    """Three projections in one, whose outputs are taken apart by their place."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(q * k.sigmoid() + v)


def fused(dtype):
    torch.manual_seed(1)
    return Fused().to(getattr(torch, dtype))


def single_fused(dtype="float32"):
    return training(fused(dtype), batches=documents(dtype))


def fused_projections_cut_across(dtype="float32"):
    """Rank 0 has all queries and half of the keys, and takes them for a third each (awslabs/slapo#46)."""
    model = fused(dtype)
    mesh = init_device_mesh("cpu", (get_world_size(),))
    parallelize_module(model, mesh, {"qkv": ColwiseParallel(), "out": RowwiseParallel()})
    return training(model, batches=documents(dtype))


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
