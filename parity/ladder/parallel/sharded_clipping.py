"""Clipping of shards: the norm is that of all gradients, those in shards and those that every rank has alike, once."""

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from parity.ladder.parallel import single, tensor_parallel
from parity.training import Training


def clip(params, most):
    """As torch.nn.utils.clip_grad_norm_, which takes no norm of DTensors and other tensors together."""
    gradients = [param.grad for param in params]
    shards = get_total_norm([grad for grad in gradients if isinstance(grad, DTensor)]).full_tensor()
    alike = get_total_norm([grad for grad in gradients if not isinstance(grad, DTensor)])
    norm = torch.hypot(shards, alike).item()
    for grad in gradients:
        grad *= min(1.0, most / (norm + 1e-6))


def step(model, optimizer, documents):
    """Forward and backward, and the update by the clipped gradient."""
    optimizer.zero_grad()
    loss = single.loss(model, documents)
    loss.backward()
    clip(list(model.parameters()), 0.5)
    optimizer.step()
    return loss.detach()


def make(dtype="float32", device="cpu"):
    """The training of one rank: tensor parallel, whose norms and embeddings are whole on every rank."""
    made = tensor_parallel.make(dtype, device)
    return Training(made.model, made.optimizer, step=step, batches=made.batches)
