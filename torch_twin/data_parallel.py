"""Data parallel: two processes with half of the documents each, and DistributedDataParallel to average gradients.

Builds on `fused_adam`, which every process runs on its own documents. DistributedDataParallel averages the gradients
while backward goes on, so all take the same update; `ranks` holds the processes and what leads them.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributed import get_rank, get_world_size
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from reference.config import State
from torch_twin.fused_adam import FusedAdam
from torch_twin.ranks.subject import Led


class Loss(nn.Module):
    """A rung's loss as a module, which is what DistributedDataParallel takes."""

    def __init__(self, rung: FusedAdam) -> None:
        super().__init__()
        self.loss, self.names = rung.loss, list(rung.state.params)
        self.weights = nn.ParameterList(rung.state.params.values())

    def forward(self, inputs: Any) -> tuple[Tensor, Any]:
        """The loss and the logits, as the rung's."""
        return self.loss(inputs, dict(zip(self.names, self.weights)))


def own(batch: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """The documents of this rank: they are dealt out like cards."""
    return batch[get_rank() :: get_world_size()]


class Rank(FusedAdam):
    """What each process trains: its documents out of every batch, on weights that stay equal on all ranks."""

    @override
    def load(self, state: State) -> None:
        super().load(state)
        self.module = DistributedDataParallel(Loss(self))

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[float, Any]:
        """What this rank's mean over documents counts in the mean over ranks, and the tensors of its documents."""
        documents = own(batch)
        share = len(documents) * get_world_size() / len(batch)
        # All ranks must take part in every average: one without documents does so with one that counts nothing.
        return share, super().prepare(documents or batch[:1])

    @override
    def backward(self, inputs: tuple[float, Any], params: dict[str, Tensor]) -> Tensor:
        """This rank's part of the loss, with the gradients of the whole loss left in the leaves."""
        share, documents = inputs
        loss, self.logits = self.module(documents)
        loss = loss * share
        loss.backward()
        return loss.detach()

    @override
    def document_logits(self, batch: Sequence[Sequence[int]]) -> list[Tensor]:
        return super().document_logits(own(batch))


class DataParallel(Led):
    """The subject, whose ranks these are."""

    rung = Rank


make = DataParallel
