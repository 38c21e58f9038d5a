"""The whole step compiled: forward, backward, Adam and its schedule as one graph, which leads from state to state.

Builds on `compiled`. The graph has few inputs, and Adam is one expression over all weights, for they lie end to end in
one vector. It keeps to one thread, also with large batches.
"""

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import Config, Hyper, State
from torch_twin.compiled import Compiled
from torch_twin.tools.threads import threads

Flat = tuple[Tensor, Tensor, Tensor, Tensor]
"""A state as four tensors: the number of updates done; all weights end to end; all m; all v."""


class WholeStep(Compiled):
    """The state is what the graph takes and gives; by name it is there for whoever asks."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.graph = self.compiled(self.step)

    @property
    def state(self) -> State:
        """The state by name; its matrices are views of the vectors."""
        count, *vectors = self.flat
        return State(*map(self.named, vectors), step=int(count))

    @state.setter
    def state(self, state: State) -> None:
        count = torch.tensor(state.step, device=self.device)
        self.flat = (count, *map(self.end_to_end, (state.params, state.m, state.v)))

    @property
    def grads(self) -> dict[str, Tensor]:
        """The gradients of the latest update by name."""
        return self.named(self.gradient)

    def end_to_end(self, matrices: dict[str, Tensor]) -> Tensor:
        """All matrices in one vector."""
        return torch.cat([matrices[name].flatten() for name in self.config.shapes()])

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """The matrices of a vector by name."""
        shapes = self.config.shapes()
        parts = vector.split([rows * columns for rows, columns in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}

    @override
    def update(self, inputs: tuple[Tensor, ...]) -> Tensor:
        with threads(1):  # what takes microseconds costs more to share among threads than it takes
            self.flat, self.gradient, loss, self.logits = self.graph(self.flat, inputs)
        return loss

    def step(self, flat: Flat, inputs: tuple[Tensor, ...]) -> tuple[Flat, Tensor, Tensor, Tensor]:
        """The state after one update, the gradients, the loss and the logits; nothing is changed in place."""
        gradient, loss, logits = self.differentiate(flat[1], inputs)
        return self.adam(*flat, gradient), gradient, loss, logits

    def differentiate(self, vector: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of the weights in a vector, the loss and the logits."""

        def loss(vector: Tensor) -> tuple[Tensor, Any]:
            return self.loss(inputs, self.named(vector))

        gradient, (value, logits) = torch.func.grad_and_value(loss, has_aux=True)(vector)
        return gradient, value, logits

    def adam(self, count: Tensor, params: Tensor, m: Tensor, v: Tensor, gradient: Tensor) -> Flat:
        """The state after an update; the step number is a tensor, for every other number would be another graph."""
        hyper, step = self.hyper, count.double()
        progress = step / hyper.num_steps
        decay = 0.5 * (1 + (math.pi * progress).cos()) if hyper.lr_schedule == "cosine" else 1 - progress
        # Stacked, they are computed once; otherwise the compiler puts their powers into the loop over the weights.
        numbers = (hyper.learning_rate * decay, 1 - hyper.beta1 ** (step + 1), 1 - hyper.beta2 ** (step + 1))
        rate, m_correction, v_correction = torch.stack(numbers).to(params.dtype)
        m = hyper.beta1 * m + (1 - hyper.beta1) * gradient
        v = hyper.beta2 * v + (1 - hyper.beta2) * gradient**2
        update = rate * (m / m_correction) / ((v / v_correction) ** 0.5 + hyper.eps_adam)
        return count + 1, params - update, m, v


make = WholeStep
