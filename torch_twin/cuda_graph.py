"""CUDA graphs: the kernels of a step are recorded once, and from then on one launch starts them all.

Builds on `cuda`, where Python starts every kernel, which takes longer than the kernel itself. What is recorded reads
and writes fixed places in memory, which hold the state, the batch and the results.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import Config, Hyper, Step
from torch_twin.cuda import Cuda


def recorded(function: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """What repeats all that the function does on the GPU, and the tensors that it fills anew each time."""
    # Once without recording, on a stream of its own: what a first call sets up must not be recorded.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


class CudaGraph(Cuda):
    """The state and whatever an update gives are overwritten by the next one."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cuda") -> None:
        super().__init__(config, hyper, dtype, device)
        self.sizes: list[torch.Size] = []

    @override
    def update(self, inputs: tuple[Tensor, ...]) -> Tensor:
        if self.sizes != [part.shape for part in inputs]:
            self.record(inputs)
        for place, tensor in zip(self.places, (*self.flat, *inputs)):
            if place is not tensor:
                place.copy_(tensor)
        self.replay()
        self.flat = tuple(self.places[:4])
        self.gradient, loss, self.logits = self.results
        return loss

    def record(self, inputs: tuple[Tensor, ...]) -> None:
        """Record a step on inputs of these sizes; the state stays as it is."""
        self.sizes = [part.shape for part in inputs]
        self.places = [tensor.clone() for tensor in (*self.flat, *inputs)]

        def step() -> tuple[Tensor, ...]:
            flat, *results = self.step(tuple(self.places[:4]), tuple(self.places[4:]))
            for place, tensor in zip(self.places, flat):
                place.copy_(tensor)
            return tuple(results)

        self.replay, self.results = recorded(step)

    @override
    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, and copies of all that it computed."""
        step = super().train_step(batch)
        copies: Any = (
            {name: tensor.clone() for name, tensor in tensors.items()}
            for tensors in (step.grads, step.params, step.m, step.v)
        )
        return Step(step.loss, [logits.clone() for logits in step.logits], *copies)


make = CudaGraph
