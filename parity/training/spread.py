"""What takes in the tensors of a step on shadows as they come, so that no replica is kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from typing_extensions import override

from parity.errors import SubjectError
from parity.quantities import TensorKey
from parity.training.observation import Observed, same_numbers

Floor = dict[TensorKey, Tensor]
"""The noise floor of each element: how far replicas lie from exact arithmetic, in the root mean square."""


class Nothing(Observed):
    """Takes in nothing, of a step that is taken for the state that it leads to."""

    @override
    def take(self, key: TensorKey, tensor: Tensor, dtype: torch.dtype) -> None:
        pass


class Again(Observed):
    """Takes in a step that was taken before, from the same state; SubjectError for a tensor that differs."""

    def __init__(self, once: Observed, number: int) -> None:
        super().__init__()
        self.once, self.number = once, number

    @override
    def take(self, key: TensorKey, tensor: Tensor, dtype: torch.dtype) -> None:
        before = self.once.tensors.get(key)
        if before is None or not same_numbers(before, tensor):
            raise SubjectError(
                f"Asked again from the same state, step {self.number} gives another {key.described()}: it depends on "
                "something that is no parameter, no buffer and no state of the optimizer."
            )


class Spread:
    """How far replicas lie from exact arithmetic, in the root mean square; its squares would underflow sooner.

    wide: of exact arithmetic itself. Its floors, and those of tensors in float64, reach below float32's numbers.
    """

    def __init__(self, expected: Observed, *, wide: bool = False) -> None:
        self.expected = expected.tensors
        self.floor: Floor = {
            key: torch.zeros_like(x, dtype=torch.float64 if wide or dtype is torch.float64 else torch.float32)
            for (key, x), dtype in zip(self.expected.items(), expected.dtypes.values(), strict=True)
        }
        self.number = 0

    @contextmanager
    def replica(self) -> Iterator[Observed]:
        """What takes in a replica."""
        self.number += 1
        seen = _Replica(self)
        yield seen
        for key in self.floor.keys() - seen.keys:  # it exists or not as rounding will have it
            self.floor[key].fill_(torch.inf)

    def add(self, key: TensorKey, tensor: Tensor) -> None:
        """Take in a tensor of the latest replica."""
        if key not in self.floor or self.floor[key].shape != tensor.shape:
            return
        expected, floor = self.expected[key], self.floor[key]
        away = torch.sub(tensor, expected)
        if not bool(away.isfinite().all()):
            away.masked_fill_(tensor == expected, 0.0).nan_to_num_(nan=torch.inf)  # the same infinities do not differ
        away.mul_(self.number**-0.5)
        floor.copy_(torch.hypot(floor.double().mul_((1 - 1 / self.number) ** 0.5), away))


class _Replica(Observed):
    def __init__(self, spread: Spread) -> None:
        super().__init__()
        self.spread = spread
        self.keys: set[TensorKey] = set()

    @override
    def take(self, key: TensorKey, tensor: Tensor, dtype: torch.dtype) -> None:
        self.keys.add(key)
        self.spread.add(key, tensor)
