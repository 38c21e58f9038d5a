"""Random moves by what number formats round, and sums and products that are moved with their partial sums."""

import random
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from parity.number_formats import FORMATS

UNIT = {getattr(torch, name): form.u for name, form in FORMATS.items()} | {
    torch.complex64: FORMATS["float32"].u,
    torch.complex128: FORMATS["float64"].u,
}
"""The unit roundoff of each format."""

SINGLE = UNIT[torch.float32]
"""That of accumulators, which are float32 at least: in shorter formats only results are rounded to them."""

_POOL = 1 << 20
"""How many random numbers a replica draws; each operation takes a run of them from a random place on."""


class Noise:
    """The random moves of one replica.

    wide: the formats' rounding is left out, and every operation rounds as float64 does; it is what a program that runs
    on shadows does by itself, and how far two of them may lie apart.
    """

    def __init__(self, seed: int, *, wide: bool = False) -> None:
        self.wide = wide
        self._places = random.Random(seed)
        self._pools: dict[torch.device, Tensor] = {}

    def unit(self, dtype: torch.dtype) -> float:
        """The largest relative move of a result in a format. In float64 both sides round, so it is twice as large."""
        u = UNIT[torch.float64] if self.wide else UNIT[dtype]
        return 2 * u if u == UNIT[torch.float64] else u

    def like(self, x: Tensor) -> Tensor:
        """Numbers of [-1, 1], uniform, in the shape of x."""
        number = x.numel()
        pool = self._pool(x.device)
        if number <= _POOL // 2:
            start = self._places.randrange(_POOL - number)
            return pool[start : start + number].view(x.shape)
        runs = [pool[start : start + _POOL // 2] for start in self._starts(number)]
        return torch.cat(runs)[:number].view(x.shape)

    def _starts(self, number: int) -> list[int]:
        return [self._places.randrange(_POOL // 2) for _ in range(-(-number // (_POOL // 2)))]

    def _pool(self, device: torch.device) -> Tensor:
        if device not in self._pools:
            generator = torch.Generator(device).manual_seed(self._places.getrandbits(62))
            pool = torch.rand(_POOL, generator=generator, dtype=torch.float64, device=device)
            self._pools[device] = pool.mul_(2).sub_(1)
        return self._pools[device]

    def number(self) -> float:
        """A number of [-1, 1]."""
        return self._places.uniform(-1, 1)


class Arithmetic:
    """Operations on float64 whose results are moved by a relative u, at most; exact without noise."""

    def __init__(self, noise: Noise | None, u: float) -> None:
        self.noise = noise
        self.u = u

    def moved(self, x: Tensor, times: float = 1) -> Tensor:
        """The result of an operation on elements, whose error is at most so many u."""
        if self.noise is None:
            return x
        if x.is_complex():
            return self.moved_by(x, x.abs() * (self.u * times))
        return torch.addcmul(x, x, self.noise.like(x), value=self.u * times)

    def moved_by(self, x: Tensor, size: Tensor) -> Tensor:
        """A result whose error is at most size."""
        if self.noise is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x)
            return torch.view_as_complex(torch.addcmul(parts, self.noise.like(parts), size.unsqueeze(-1)))
        return torch.addcmul(x, self.noise.like(x), size)

    def summed(self, x: Tensor, squares: Tensor, terms: int) -> Tensor:
        """A sum of so many terms whose squares add up to squares: each partial sum is rounded, and they are of random
        sign (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2: errors of sums)."""
        if self.noise is None:
            return x
        return self.moved_by(x, squares.clamp_(min=0).mul_((1 + terms / 2) * self.u**2).sqrt_())

    def sum(self, x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
        """The sum over dimensions, all without any."""
        dims = list(dims) if dims else list(range(x.dim()))
        total = x.sum(dims, keepdim)
        if self.noise is None:
            return total
        return self.summed(total, _squared(x).sum(dims, keepdim), prod(x.shape[dim] for dim in dims))

    def mean(self, x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
        """The mean over dimensions, all without any."""
        total = self.sum(x, dims, keepdim)
        return total / max(1, x.numel() // max(1, total.numel()))

    def product(self, multiply: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor, terms: int) -> Tensor:
        """A bilinear map, each of whose results is the sum of so many products."""
        result = multiply(left, right)
        if self.noise is None:
            return result
        return self.summed(result, multiply(_squared(left), _squared(right)).to(result.real.dtype), terms)

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of (batches of) matrices."""
        return self.product(torch.matmul, left, right, left.shape[-1])


def _squared(x: Tensor) -> Tensor:
    return x.abs().square() if x.is_complex() else x * x
