"""Two trainings as they are, in processes of their own: which elements of their steps have other bits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from parity.training.names import Names
from parity.training.other import Numbered
from parity.training.remote import Elsewhere


@dataclass
class Bits:
    """Of one quantity over all steps: elements that both have, and those that differ."""

    quantity: str
    compared: int = 0
    different: int = 0


@dataclass
class SameBits:
    """What both compute when they run from the same state. alone: tensors that only one has, or in another shape."""

    rows: dict[str, Bits]
    alone: set[str]

    @property
    def identical(self) -> bool:
        """Whether every bit of everything is the same."""
        return bool(self.rows) and not self.alone and not any(row.different for row in self.rows.values())


def compare_bits(head: Elsewhere, base: Elsewhere, names: Names, start: Numbered, steps: int) -> SameBits:
    """Take so many steps of both, as they are. names: head's for base's. start: base's numbers, from which both start.

    SubjectError where one of them fails.
    """
    found = SameBits({}, set())
    for number in range(steps):
        new = head.native(number, names.to_own(start) if number == 0 else None)
        old = base.native(number, start if number == 0 else None)
        expected = names.to_own(old.tensors)
        for key, tensor in new.tensors.items():
            if key not in expected or expected[key].shape != tensor.shape:
                found.alone.add(key.described())
                continue
            source = key._replace(name=names.sources[key.name][0]) if key.name in names.sources else key
            row = found.rows.setdefault(key.quantity, Bits(key.quantity))
            row.compared += tensor.numel()
            same_format = new.dtypes[key] == old.dtypes[source]
            row.different += _different(tensor, expected[key]) if same_format else tensor.numel()
        found.alone |= {key.described() for key in expected if key not in new.tensors}
    return found


def _different(actual: Tensor, expected: Tensor) -> int:
    """How many elements have other bits: zeros have two signs, and what is no number is equal to itself."""
    return int((actual.double().view(torch.int64) != expected.double().view(torch.int64)).sum())
