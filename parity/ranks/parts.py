"""What each rank adds to a step of the single training: by which a difference is explained, and a reduction judged."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parity.number_formats import FORMATS
from parity.quantities import TensorKey
from parity.ranks.explanation import Known, mean_of
from parity.ranks.gathered import Gathered
from parity.ranks.processes import Ranks
from parity.ranks.reduction import reduction_floor
from parity.ranks.single import Single
from parity.training.names import Names
from parity.training.other import Numbered


class Parts:
    """Asks the ranks for them, in the ranks' own names. single_name: of the single training's factory."""

    def __init__(self, ranks: Ranks, single: Single, single_name: str, names: Names) -> None:
        self.ranks, self.single, self.single_name, self.names = ranks, single, single_name, names

    def known(self, number: int, start: Numbered, found: Gathered, expected: Numbered) -> Known:
        """What the wrong gradients of a step are explained by."""
        shards = self.ranks.tensors({"type": "shards"}, "shards", "telling its shards", lambda _: ("shards",))
        return Known(
            _gradients(expected),
            self._own(number, start),
            self._unclipped(number, start),
            self.single.runs.native.clip_grad_norm,
            [{key.name: x for key, x in parts["shards"].items()} for parts in shards],
            [found.of_rank(rank, "grad") for rank in range(self.ranks.count)],
        )

    def rounded(self, number: int, start: Numbered, expected: Numbered, reduces_in: str) -> Numbered:
        """How far the reduction of a step's gradients in a format moves them."""
        own = [mean_of(parts) for parts in self._own(number, start) if parts]
        whole = own if len(own) == self.ranks.count else []
        added = reduction_floor(_gradients(expected), self._unclipped(number, start), whole, FORMATS[reduces_in])
        return {TensorKey("grad", name): error for name, error in added.items()}

    def _own(self, number: int, start: Numbered) -> list[list[dict[str, Tensor]]]:
        """By rank, what the single training's gradient is for each of its batches alone."""
        options = self.single.factory.options
        message = {"type": "own", "number": number, "factory": self.single_name, "options": options}
        each = [{"given": self.ranks.written({"start": start})} for _ in range(self.ranks.count)]
        own = self.ranks.tensors(message, "own", "its own batches", _numbered, each)
        return [[self._in_own_names(part) for part in parts.values()] for parts in own]

    def _unclipped(self, number: int, start: Numbered) -> dict[str, Tensor]:
        found = self.single.unclipped(number, start)
        return self._in_own_names({TensorKey("grad", name): x for name, x in found.items()})

    def _in_own_names(self, tensors: Mapping[TensorKey, Tensor]) -> dict[str, Tensor]:
        return {key.name: x for key, x in self.names.to_own(tensors).items()}


def _gradients(tensors: Numbered) -> dict[str, Tensor]:
    return {key.name: x for key, x in tensors.items() if key.quantity == "grad"}


def _numbered(answer: dict[str, Any]) -> tuple[str, ...]:
    """The parts that a rank has written, one for each of its batches."""
    return tuple(map(str, range(answer["parts"])))
