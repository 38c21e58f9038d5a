"""Random moves by what number formats round, and sums and products that are moved with their partial sums."""

import random
from collections.abc import Callable, Sequence
from math import inf, log2, prod

import torch
from torch import Tensor

from parity.number_formats import FORMATS

UNIT = {getattr(torch, name): form.u for name, form in FORMATS.items()} | {
    torch.complex64: FORMATS["float32"].u,
    torch.complex128: FORMATS["float64"].u,
}
"""The unit roundoff of each format."""

LARGEST = {
    getattr(torch, name): (1 - form.u / 2) * 2.0**form.highest for name, form in FORMATS.items() if form.u > 1e-15
}
"""From which size on a format has infinity alone; float64 is what shadows hold, and turns infinite with them."""

SINGLE = UNIT[torch.float32]
"""That of accumulators, which are float32 at least: in shorter formats only results are rounded to them."""

RUN = 16
"""How many terms a reduction adds one by one, at most: lanes and threads sum few each, which are summed in pairs."""

PRODUCT_RUN = 256
"""The same of a product of matrices: the blocks of their common dimension."""

_POOL = 1 << 16
"""How many random numbers a replica draws; each operation takes a run of them from a random place on."""


class Noise:
    """The random moves of one replica.

    wide: the formats' rounding is left out, and every operation rounds as float64 does; it is what a program that runs
    on shadows does by itself, and how far two of them may lie apart. given: constants are moved by the rounding of the
    format that they lie in, and Python's numbers by that of float32: so torch may have taken them, and no arithmetic
    takes that back.
    """

    def __init__(self, seed: int, *, wide: bool = False, given: bool = False) -> None:
        self.wide, self.given = wide, given
        self._places = random.Random(seed)
        self._pools: dict[tuple[torch.device, float], Tensor] = {}

    def unit(self, dtype: torch.dtype) -> float:
        """The largest relative move of a result in a format. In float64 both sides round, so it is twice as large."""
        u = UNIT[torch.float64] if self.wide else UNIT[dtype]
        return 2 * u if u == UNIT[torch.float64] else u

    def like(self, x: Tensor) -> Tensor:
        """Numbers of [-1, 1], uniform, in the shape of x."""
        return self._drawn(x, self._pool(x.device))

    def factors(self, x: Tensor, size: float) -> Tensor:
        """Numbers about 1, at most so far from it, uniform, in the shape of x."""
        key = (x.device, size)
        if key not in self._pools:
            self._pools[key] = self._pool(x.device).mul(size).add_(1)
        return self._drawn(x, self._pools[key])

    def _drawn(self, x: Tensor, pool: Tensor) -> Tensor:
        number = x.numel()
        if number <= _POOL // 2:
            start = int(self._places.random() * (_POOL - number))
            return pool[start : start + number].view(x.shape)
        starts = [int(self._places.random() * (_POOL // 2)) for _ in range(-(-number // (_POOL // 2)))]
        return torch.cat([pool[start : start + _POOL // 2] for start in starts])[:number].view(x.shape)

    def _pool(self, device: torch.device) -> Tensor:
        if (device, 0.0) not in self._pools:
            generator = torch.Generator(device).manual_seed(self._places.getrandbits(62))
            pool = torch.rand(_POOL, generator=generator, dtype=torch.float64, device=device)
            self._pools[device, 0.0] = pool.sub_(pool.mean()).mul_(2)  # of no bias, which sums would collect
        return self._pools[device, 0.0]

    def number(self) -> float:
        """A number of [-1, 1]."""
        return self._places.uniform(-1, 1)


class Arithmetic:
    """Operations on float64 whose results are moved by a relative u, at most; exact without noise.

    tiny, largest: half the distance of the format's numbers next to zero, 0 where it does not matter, and from which
    size on it has infinity alone. results: the arithmetics of an operation's results, in their order, where this is
    the one that it computes in.
    """

    def __init__(
        self,
        noise: Noise | None,
        u: float,
        tiny: float = 0.0,
        largest: float = inf,
        results: tuple["Arithmetic", ...] = (),
    ) -> None:
        self.noise = noise
        self.u = u
        self.tiny = tiny
        self.largest = largest
        self.results = results

    @property
    def short(self) -> "Arithmetic":
        """That of the first result's format."""
        return self.results[0]

    def rounded(self, x: Tensor, times: float = 1) -> Tensor:
        """The result of an operation in its format: moved, and infinite beyond its largest number."""
        if self.noise is None or self.tiny:
            x = self._overflown(x)
        return self.moved(x, times)

    def scaled(self, x: Tensor) -> Tensor:
        """The result of an operation in its format that only overflow and underflow make inexact."""
        if self.noise is None or self.tiny:
            x = self._overflown(x)
        if self.noise is None or not self.tiny or x.is_complex():
            return x
        return self.moved_by(x, (x.abs() < self.tiny / self.u).logical_and_(x != 0).to(x.dtype).mul_(self.tiny))

    def _overflown(self, x: Tensor) -> Tensor:
        if self.largest == inf or x.is_complex() or not x.is_floating_point() or not x.numel():
            return x
        smallest, largest = x.aminmax()
        if -self.largest < smallest and largest < self.largest:
            return x
        return torch.where(x.abs() >= self.largest, x * inf, x)

    def moved(self, x: Tensor, times: float = 1) -> Tensor:
        """The result of an operation on elements, whose error is at most so many u."""
        if self.noise is None:
            return x
        if x.is_complex():
            return self.moved_by(x, x.abs() * (self.u * times))
        if self.tiny:
            size = x.abs().mul_(self.u * times)
            return self.moved_by(x, torch.where(size > 0, size.clamp(self.tiny, 1e300), size))
        return x * self.noise.factors(x, self.u * times)  # of infinities, too

    def moved_by(self, x: Tensor, size: Tensor) -> Tensor:
        """A result whose error is at most size."""
        if self.noise is None:
            return x
        if x.is_complex():
            parts = torch.view_as_real(x)
            return torch.view_as_complex(torch.addcmul(parts, self.noise.like(parts), size.unsqueeze(-1)))
        return torch.addcmul(x, self.noise.like(x), size)

    def summed(self, x: Tensor, squares: Tensor, terms: float, run: float = inf) -> Tensor:
        """A sum x of so many terms whose squares add up to squares: each of its partial sums is rounded.

        Terms are added one by one in runs of that length, whose sums are then added in pairs. Of a number of terms
        that add up to x, any k have a sum whose square is about squares · k/n · (1 - k/n) + x² · (k/n)²: a random
        walk to x (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2, for random and equal
        signs).
        """
        if self.noise is None or terms <= 1:
            return x
        run = min(run, terms)
        pairs, part = log2(terms / run), run / terms
        of_squares = run * (1 / 2 - part / 3) + pairs - 2 + 2 * part
        of_sum = run * part / 3 + 2 - 2 * part
        variance = squares.clamp_(min=0).mul_(of_squares)
        variance = variance + _squared(x).mul_(of_sum)
        return self.moved_by(x, variance.sqrt_().mul_(self.u))

    def gathered(self, x: Tensor, squares: Tensor, terms: Tensor) -> Tensor:
        """Sums x of a different number of terms each, added one by one, whose squares add up to squares."""
        if self.noise is None:
            return x
        variance = (squares.clamp_(min=0) / 6 + _squared(x) / 3).mul_(terms).mul_(terms > 1)
        return self.moved_by(x, variance.sqrt_().mul_(self.u))

    def sum(self, x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False, run: float = RUN) -> Tensor:
        """The sum over dimensions, all without any."""
        dims = list(dims) if dims else list(range(x.dim()))
        total = x.sum(dims, keepdim)
        if self.noise is None:
            return total
        return self.summed(total, _squared(x).sum(dims, keepdim), prod(x.shape[dim] for dim in dims), run)

    def mean(self, x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
        """The mean over dimensions, all without any."""
        total = self.sum(x, dims, keepdim)
        return total / max(1, x.numel() // max(1, total.numel()))

    def product(self, multiply: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor, terms: int) -> Tensor:
        """A bilinear map, each of whose results is the sum of so many products."""
        result = multiply(left, right)
        if self.noise is None:
            return result
        return self.summed(result, multiply(_squared(left), _squared(right)).to(result.real.dtype), terms, PRODUCT_RUN)

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of (batches of) matrices."""
        return self.product(torch.matmul, left, right, left.shape[-1])


def _squared(x: Tensor) -> Tensor:
    return x.abs().square() if x.is_complex() else x * x
