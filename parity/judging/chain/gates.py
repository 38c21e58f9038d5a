"""ReLU gates of a model that the scalar graph does not reach: the subject's own, wherever rounding may decide them.

As in `parity.judging.relu_gates`, all replicas take the gates of the exact run, and that takes those of the subject, as
its ReLUs were observed, where the input lies within the noise floor of zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parity.judging.chain.rung import ReluInputs
from parity.judging.relu_gates import plausible
from parity.number_formats import Floats
from parity.oracle.shadows.noise import Noise

_NEAR = 0.25
"""An observed vector stands for an expected one that it differs from by no more than this part."""

_ROUNDS = 6
"""How often gates are settled anew, since those of one layer change what the next is given."""

_MARGIN = 4.0
"""How many times as far as the limit an input may lie by the floor of its whole vector, until replicas are there."""

Forward = Callable[[Noise | None, ReluInputs], object]
"""Runs the model forward."""


@dataclass
class Gates:
    """Which inputs of each ReLU pass, in the order of computation, and what is known of them; tensors (n, 4·n_embd)."""

    passes: list[Tensor]
    inputs: list[Tensor]
    """In exact arithmetic, with these gates."""
    known: list[Tensor]
    """Whether the gate is the subject's own."""
    squares: list[Tensor] = field(default_factory=list)
    """Of the distances of the replicas' inputs from the exact ones, summed up."""

    def __post_init__(self) -> None:
        self.squares = [torch.zeros_like(x) for x in self.inputs]

    def add(self, replica: ReluInputs) -> None:
        """Take in a replica."""
        for squares, x, exact in zip(self.squares, replica.inputs, self.inputs, strict=True):
            squares.add_((x - exact).square_())

    def distances(self, replicas: int) -> list[Tensor]:
        """How far from zero each input lies, in noise floors: its own, or its vector's where that is wider."""
        floors = [(squares / replicas).sqrt() for squares in self.squares]
        floors = [torch.maximum(floor, floor.square().mean(-1, keepdim=True).sqrt()) for floor in floors]
        return [torch.where(x == 0, 0.0, x.abs() / floor) for x, floor in zip(self.inputs, floors, strict=True)]

    @property
    def turned(self) -> list[Tensor]:
        """Which gates are others than exact arithmetic has by itself."""
        return [passes != (x > 0) for passes, x in zip(self.passes, self.inputs, strict=True)]


def natural(forward: Forward) -> Gates:
    """The gates of exact arithmetic itself."""
    relus = ReluInputs()
    forward(None, relus)
    nowhere = [torch.zeros_like(x, dtype=torch.bool) for x in relus.inputs]
    return Gates([x > 0 for x in relus.inputs], relus.inputs, nowhere)


def reach(gates: Gates, forward: Forward, limit: float) -> list[Tensor]:
    """How far from zero the inputs of each vector may lie for rounding to turn them, generously, (n, 1) each."""
    scout = ReluInputs(gates.passes)
    forward(Noise(0), scout)
    pairs = zip(scout.inputs, gates.inputs, strict=True)
    return [(noisy - x).square().mean(-1, keepdim=True).sqrt() * (limit * _MARGIN) for noisy, x in pairs]


def near(gates: Gates, reached: Sequence[Tensor]) -> int:
    """How many inputs lie so near to zero."""
    return sum(int((x.abs() <= within).sum()) for x, within in zip(gates.inputs, reached, strict=True))


def with_own(gates: Gates, forward: Forward, reached: Sequence[Tensor], observed: Floats) -> Gates:
    """The gates with the subject's own where rounding may have decided them.

    observed: what its ReLUs were seen to be given, (vectors, 4·n_embd), in any order: each position's vector is that
    which lies nearest to the expected one; where none lies near, nothing is known.
    """
    vectors = torch.from_numpy(observed)
    matched = [_matched(x, vectors) for x in gates.inputs]
    known = [is_known.unsqueeze(-1).expand_as(x) for (_, is_known), x in zip(matched, gates.inputs, strict=True)]
    passes = [
        torch.where(is_known, own > 0, given)
        for (own, _), is_known, given in zip(matched, known, gates.passes, strict=True)
    ]
    for _ in range(_ROUNDS):
        relus = ReluInputs(passes)
        forward(None, relus)
        far = [
            ((x > 0) != given) & ((x.abs() > within) | ~is_known)
            for x, given, within, is_known in zip(relus.inputs, passes, reached, known, strict=True)
        ]
        if not any(bool(of_relu.any()) for of_relu in far):
            break
        passes = [given ^ of_relu for given, of_relu in zip(passes, far, strict=True)]
    return Gates(passes, relus.inputs, known)


def _matched(expected: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """For each expected vector the observed one that is nearest, (n, width), and whether it is near, (n,)."""
    distances = torch.cdist(expected, observed)
    nearest = distances.argmin(-1)
    smallest = distances.gather(-1, nearest.unsqueeze(-1)).squeeze(-1)
    return observed[nearest], smallest <= _NEAR * expected.norm(dim=-1)


def explained(gates: Gates, replicas: int, limit: float, false_alarm: float) -> bool:
    """Whether rounding may have turned those that are turned, each of them and all together.

    Each gate of a dead band lies near to its kink; that they all close is not rounding.
    """
    distances = torch.cat([distance.flatten() for distance in gates.distances(replicas)])
    turned = torch.cat([of_relu.flatten() for of_relu in gates.turned])
    near_ones = int((distances <= limit).sum())
    of_turned = distances[turned]
    return bool((of_turned <= limit).all()) and plausible(of_turned.tolist(), near_ones, false_alarm)
