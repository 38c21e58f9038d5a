"""Data parallel: two processes with half of the documents each, and DistributedDataParallel to average gradients."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributed import get_rank, get_world_size
from torch.nn.parallel import DistributedDataParallel

from reference.config import Config, Hyper, State
from torch_twin.fused_adam import FusedAdam
from torch_twin.spmd import Led


class Loss(nn.Module):
    """A rung's loss as a module, which is what DistributedDataParallel takes."""

    def __init__(self, rung: FusedAdam) -> None:
        super().__init__()
        self.loss, self.names = rung.loss, list(rung.state.params)
        self.weights = nn.ParameterList(rung.state.params.values())

    def forward(self, inputs: Any) -> tuple[Tensor, Any]:
        """The loss and the logits, as the rung's."""
        return self.loss(inputs, dict(zip(self.names, self.weights)))


class Rank(FusedAdam):
    """What each process trains: its documents out of every batch, on weights that stay equal on all ranks."""

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        super().load(state)
        self.module = DistributedDataParallel(Loss(self))

    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[float, Any]:
        """What this rank's mean over documents counts in the mean over ranks, and the tensors of its documents."""
        own = batch[get_rank() :: get_world_size()]
        share = len(own) * get_world_size() / len(batch)
        # All ranks must take part in every average: one without documents does so with one that counts nothing.
        return share, super().prepare(own or batch[:1])

    def backward(self, inputs: tuple[float, Any], params: dict[str, Tensor]) -> Tensor:
        """This rank's part of the loss, with the gradients of the whole loss left in the leaves."""
        share, documents = inputs
        loss, self.logits = self.module(documents)
        loss = loss * share
        loss.backward()
        return loss.detach()

    def document_logits(self, lengths: Sequence[int]) -> list[Tensor]:
        """The logits of this rank's documents."""
        return super().document_logits(lengths[get_rank() :: get_world_size()])


class DataParallel(Led):
    """The subject, whose ranks these are."""

    rung = Rank


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> DataParallel:
    """The subject `torch_twin.data_parallel:make`."""
    return DataParallel(config, hyper, dtype, device)
