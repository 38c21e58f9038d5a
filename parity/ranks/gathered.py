"""The ranks' tensors as those of one training: what all have alike once, and what differs by rank."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parity.quantities import TensorKey
from parity.ranks.processes import Ranks, gathered_tensors
from parity.training.observation import Observed


@dataclass
class Gathered:
    """What the ranks showed: by key the tensor of the first rank that has it, and those of ranks that have other bits.

    losses: of every rank, None where it shows none; weights: what they count; loss_dtype: the format that they lie in.
    inputs_alike: whether every rank's model was given the same, and computed all of it.
    """

    tensors: dict[TensorKey, Tensor] = field(default_factory=dict)
    dtypes: dict[TensorKey, torch.dtype] = field(default_factory=dict)
    others: dict[TensorKey, dict[int, Tensor]] = field(default_factory=dict)
    shown_by: dict[TensorKey, dict[int, int]] = field(default_factory=dict)
    """By key and rank, the first rank that has the same bits."""
    losses: list[float | None] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    loss_dtype: torch.dtype = torch.float32
    inputs_alike: bool = False

    def state(self, rank: int) -> dict[TensorKey, Tensor]:
        """The numbers that a step begins from on a rank."""
        return {key: self._of(rank, key).double() for key in self.tensors if key.quantity != "grad"}

    def of_rank(self, rank: int, quantity: str) -> dict[str, Tensor]:
        """A quantity's tensors as one rank has them, or as the first that has any."""
        return {key.name: self._of(rank, key) for key in self.tensors if key.quantity == quantity}

    def _of(self, rank: int, key: TensorKey) -> Tensor:
        return self.others.get(key, {}).get(self.shown_by[key].get(rank, -1), self.tensors[key])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters."""
        return {key.name: tuple(x.shape) for key, x in self.tensors.items() if key.quantity == "param"}

    def observed(self) -> tuple[Observed, dict[TensorKey, tuple[TensorKey, int]]]:
        """The tensors to be compared, each version once, and by its name which one it is and of which rank.

        Where the ranks differ, each is named by the first rank that has it, as rank1.wte.
        """
        found, stands_for = Observed(), {}
        for key, tensor in self.tensors.items():
            versions = {min(self.shown_by[key]): tensor, **self.others.get(key, {})}
            for rank, version in versions.items():
                name = self._named(key, rank)
                found.tensors[name], found.dtypes[name] = version, self.dtypes[key]
                stands_for[name] = key, rank
        return found, stands_for

    def versions(self) -> dict[TensorKey, dict[int, tuple[TensorKey, int]]]:
        """By key and rank, under which name `observed` has its tensor, and the first rank with the same bits."""
        return {
            key: {rank: (self._named(key, first), first) for rank, first in by_rank.items()}
            for key, by_rank in self.shown_by.items()
        }

    def _named(self, key: TensorKey, rank: int) -> TensorKey:
        return key._replace(name=f"rank{rank}.{key.name}") if key in self.others else key

    def apart(self, *, gradients: bool) -> set[int]:
        """The ranks that have other gradients, or something else with other bits, than the first rank that has it."""
        found = set()
        for key, versions in self.others.items():
            if (key.quantity == "grad") is gradients:
                found |= {rank for rank, shown_by in self.shown_by[key].items() if shown_by in versions}
        return found


def gather(ranks: Ranks, answers: Sequence[dict[str, Any]]) -> Gathered:
    """Fetch what the ranks' answers tell of: of every tensor each version once, from the first rank that has it."""
    versions: dict[TensorKey, dict[str, int]] = {}
    found = Gathered(
        losses=[answer.get("loss") for answer in answers],
        weights=[answer.get("weight", 1.0) for answer in answers],
        inputs_alike=len({answer.get("inputs") for answer in answers}) == 1 and bool(answers[0].get("inputs")),
    )
    for answer in answers:
        if "loss_dtype" in answer:
            found.loss_dtype = getattr(torch, answer["loss_dtype"])
    for rank, answer in enumerate(answers):
        for quantity, name, dtype, digest in answer["digests"]:
            key = TensorKey(quantity, name)
            found.dtypes.setdefault(key, getattr(torch, dtype.removeprefix("torch.")))
            first = versions.setdefault(key, {}).setdefault(digest, rank)
            found.shown_by.setdefault(key, {})[rank] = first
    chosen: list[list[TensorKey]] = [[] for _ in range(ranks.count)]
    for key, by_digest in versions.items():
        for rank in by_digest.values():
            chosen[rank].append(key)
    for rank, tensors in enumerate(gathered_tensors(ranks, chosen)):
        for key, tensor in tensors.items():
            held = tensor.to(found.dtypes[key])
            if key in found.tensors:
                found.others.setdefault(key, {})[rank] = held
            else:
                found.tensors[key] = held
    return found
