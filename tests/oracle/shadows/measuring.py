"""How far a program's native results lie from its exact run, in standard deviations of its replicas."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.oracle.shadows.shadow import in_shadow, inner_of
from parity.verdict import FALSE_ALARM, limit

REPLICAS = 12

Program = Callable[..., Any]
"""Of fresh tensors, which it may write to and take gradients of: results, a tensor or several."""


@dataclass
class Measured:
    """What a program's errors are, in units of the floor."""

    results: list[Tensor]
    """Of every element of each result; 0 where it is exactly as expected."""
    execution: Execution

    @property
    def z(self) -> Tensor:
        return torch.cat(self.results)

    @property
    def rms(self) -> float:
        """Over the elements that are off at all."""
        return rms(self.z)

    @property
    def largest(self) -> float:
        return float(self.z.max())

    @property
    def limit(self) -> float:
        return limit(FALSE_ALARM, self.z.numel(), REPLICAS)


def measured(program: Callable[[bool], Iterable[Tensor]], replicas: int = REPLICAS) -> Measured:
    """A program's native results against its exact ones. It is asked whether to run on shadows."""
    native = [inner_of(x) for x in program(False)]
    execution = Execution()
    with execution:
        results = program(True)
    exact = [inner_of(x) for x in results]
    squares = [torch.zeros(x.shape, dtype=torch.float64) for x in exact]
    for seed in range(replicas):
        with Execution(Noise(seed + 1)):
            results = program(True)
        for square, x, expected in zip(squares, results, exact, strict=True):
            square += (inner_of(x) - expected).abs().nan_to_num().square()
    z = [
        torch.where(distances(x, expected) == 0, 0.0, distances(x, expected) / (square / replicas).sqrt()).flatten()
        for x, expected, square in zip(native, exact, squares, strict=True)
    ]
    return Measured(z, execution)


def rms(z: Tensor) -> float:
    return float(z[z != 0].clamp(max=1e30).square().mean().sqrt()) if (z != 0).any() else 0.0


def distances(actual: Tensor, expected: Tensor) -> Tensor:
    """Between elements; 0 where both are the same, infinite ones and NaN too."""
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    return torch.where(same, 0.0, (actual - expected).abs().nan_to_num(nan=torch.inf))


def check_floor(found: Measured) -> None:
    """Require that errors are of the size of the floor: of each result, and its largest; and that all has a model."""
    assert found.largest <= found.limit
    for z in found.results:
        if (z != 0).sum() >= 32:
            assert 0.3 <= rms(z) <= 1.2
    assert not found.execution.elementwise


def with_gradients(
    function: Program, inputs: tuple[Tensor, ...], scale: float = 1.0
) -> Callable[[bool], Iterable[Tensor]]:
    """A function's results and the gradients of its inputs that are floats, for random gradients of the results."""

    def program(in_shadows: bool) -> Iterable[Tensor]:
        given = [x.clone().requires_grad_(x.dtype.is_floating_point and x.dim() > 0) for x in inputs]
        if in_shadows:
            for x in given:
                in_shadow(x)
        out = function(*given)
        outs = [x for x in (out if isinstance(out, (tuple, list)) else [out]) if x.requires_grad]
        into = [gradient_of(x, scale, in_shadows) for x in outs]
        grads = torch.autograd.grad(outs, [x for x in given if x.requires_grad], into, allow_unused=True)
        return [*(out if isinstance(out, (tuple, list)) else [out]), *(g for g in grads if g is not None)]

    return program


def gradient_of(x: Tensor, scale: float, in_shadows: bool) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    with _disable_current_modes():
        made = (torch.randn(x.shape, dtype=torch.float64, generator=generator) * scale).to(x.dtype)
    if in_shadows:
        in_shadow(made)
    return made
