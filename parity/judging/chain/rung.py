"""All positions at once, on shadows: the exact step of a model, or a replica of it with a format's rounding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from parity.number_formats import Floats, Format
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.oracle.shadows.shadow import Shadow, inner_of
from reference.config import Config, Hyper
from torch_twin.positions import Positions
from torch_twin.tools.threads import threads

_WORTH_THREADS = 1_000_000
"""Parameters from which on threads gain more than they wait for each other."""

Tensors = Mapping[str, Floats]
"""The matrices of a model by name."""


@dataclass
class Forward:
    """The loss, (), and the logits of each document, (n, vocab_size), in float64."""

    loss: Tensor
    logits: list[Tensor]


class ReluInputs:
    """What the ReLUs of a run are given, in the order of computation; and what they do, where that is decided.

    decided: which inputs pass, by ReLU; None where each input decides by itself.
    """

    def __init__(self, decided: Sequence[Tensor] | None = None) -> None:
        self.decided = decided
        self.inputs: list[Tensor] = []

    def relu(self, x: Tensor) -> Tensor | None:
        """Take in the inputs of the next ReLU, (n, 4 * n_embd)."""
        self.inputs.append(x.detach().clone())
        return None if self.decided is None else self.decided[len(self.inputs) - 1]

    def maximum(self, shape: torch.Size) -> Tensor | None:
        """There are no maxima."""
        return None


class Rung:
    """A model whose arithmetic has one format, and whose weights lie in another one, if storage says so."""

    def __init__(self, config: Config, hyper: Hyper, form: Format, storage: Format | None = None) -> None:
        self.config = config
        self._dtype: torch.dtype = getattr(torch, form.name)
        self._storage: torch.dtype = getattr(torch, (storage or form).name)
        self._program = Positions(config, hyper, form.name)

    def forward(
        self, params: Tensors, batch: Sequence[Sequence[int]], noise: Noise | None, relus: ReluInputs
    ) -> Forward:
        """Loss and logits. params: float64, (rows, columns) each; none is written to."""
        leaves = self._leaves(params)  # in the execution itself, their numbers would be shadows as well
        with torch.no_grad(), self._execution(noise, relus):
            return self._run(leaves, batch)

    def step(
        self,
        params: Tensors,
        batch: Sequence[Sequence[int]],
        noise: Noise | None,
        relus: ReluInputs | None,
        take: Callable[[str, Tensor], None],
    ) -> Forward:
        """Forward and backward. take: given each gradient, (rows, columns) in float64, as soon as it is whole."""
        leaves = self._leaves(params)
        for name, leaf in leaves.items():
            hook = _handed_over(name, take)
            leaf.requires_grad_().register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
        with self._execution(noise, relus):
            return self._run(leaves, batch, backward=True)

    @contextmanager
    def _execution(self, noise: Noise | None, relus: ReluInputs | None) -> Iterator[None]:
        execution = Execution(noise)
        execution.gates = relus
        small = self.config.num_params() < _WORTH_THREADS
        with threads(1) if small else nullcontext(), execution:
            yield

    def _leaves(self, params: Tensors) -> dict[str, Tensor]:
        return {name: Shadow(torch.from_numpy(matrix), self._storage) for name, matrix in params.items()}

    def _run(self, leaves: dict[str, Tensor], batch: Sequence[Sequence[int]], *, backward: bool = False) -> Forward:
        rung: Any = self._program
        short = leaves if self._storage == self._dtype else {n: leaf.to(self._dtype) for n, leaf in leaves.items()}
        loss, logits = rung.loss(rung.prepare(batch), short)
        if backward:
            loss.backward()
        return Forward(inner_of(loss), [inner_of(rows) for rows in logits])


def _handed_over(name: str, take: Callable[[str, Tensor], None]) -> Callable[[Tensor], None]:
    def hook(leaf: Tensor) -> None:
        assert leaf.grad is not None
        gradient, leaf.grad = inner_of(leaf.grad), None
        with _disable_current_modes(), torch.no_grad():
            take(name, gradient)

    return hook
