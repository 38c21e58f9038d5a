"""torch.compile: forward and backward as two compiled graphs, for which every document is padded to the block.

Builds on `padded`, whose operations are small and many: the compiler makes loops of C++ over several of them at once.
Every document fills the block, so that a number of documents has one graph, whatever their lengths.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from reference.config import Config, Hyper
from torch_twin.padded import Padded


def allow_many_graphs() -> None:
    """In this thread; by default it is eight, and graphs are kept with a function's code, which all subjects share."""
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit


class Compiled(Padded):
    """What is compiled is the loss; torch makes the graph of backward out of it."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.graph = self.compiled(self.loss)

    def compiled(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The function as one graph for the sizes that it is called with; other sizes make another graph."""
        allow_many_graphs()
        # Small kernels start sooner when C++ calls them than when Python does, and are compiled in one go. The matcher
        # of patterns would put torch's fused attention in, whose call costs more than attention as small as this.
        options = {"cpp_wrapper": self.device == "cpu", "pattern_matcher": False, **options}
        return torch.compile(function, fullgraph=True, dynamic=False, options=options)

    @override
    def prepare(self, batch: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        """Tokens, targets and the weights of their losses, (documents, block_size) each."""
        return tuple(pad(part, (0, self.config.block_size - part.shape[1])) for part in super().prepare(batch))

    @override
    def backward(self, inputs: tuple[Tensor, ...], params: dict[str, Tensor]) -> Tensor:
        loss, self.logits = self.graph(inputs, params)
        loss.backward()
        return loss.detach()


make = Compiled
