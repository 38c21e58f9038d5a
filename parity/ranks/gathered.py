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

    losses: of every rank, None where it shows none.
    """

    tensors: dict[TensorKey, Tensor] = field(default_factory=dict)
    dtypes: dict[TensorKey, torch.dtype] = field(default_factory=dict)
    first: dict[TensorKey, int] = field(default_factory=dict)
    """The rank that each is of."""
    others: dict[TensorKey, dict[int, Tensor]] = field(default_factory=dict)
    losses: list[float | None] = field(default_factory=list)

    def state(self) -> dict[TensorKey, Tensor]:
        """The numbers that a step begins from."""
        return {key: x.double() for key, x in self.tensors.items() if key.quantity != "grad"}

    def of_rank(self, rank: int, quantity: str) -> dict[str, Tensor]:
        """A quantity's tensors as one rank has them, or the first of the others where it has none."""
        found = {key: x for key, x in self.tensors.items() if key.quantity == quantity}
        return {key.name: self.others.get(key, {}).get(rank, x) for key, x in found.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters."""
        return {key.name: tuple(x.shape) for key, x in self.tensors.items() if key.quantity == "param"}

    def observed(self) -> tuple[Observed, dict[TensorKey, TensorKey]]:
        """The tensors to be compared, each version once, and which key stands for which.

        Where the ranks differ, each is named by the first rank that has it, as rank1.wte. Where a rank has another
        gradient, what it made of it follows from that, and is left out.
        """
        found, stands_for = Observed(), {}
        for key, tensor in self.tensors.items():
            versions = {self.first[key]: tensor, **self.others.get(key, {})}
            if len(versions) > 1 and key.quantity != "grad" and TensorKey("grad", key.name) in self.others:
                continue
            for rank, version in versions.items():
                name = key._replace(name=f"rank{rank}.{key.name}") if len(versions) > 1 else key
                found.tensors[name], found.dtypes[name] = version, self.dtypes[key]
                stands_for[name] = key
        return found, stands_for


def gather(ranks: Ranks, answers: Sequence[dict[str, Any]]) -> Gathered:
    """Fetch what the ranks' answers tell of: of every tensor each version once, from the first rank that has it."""
    versions: dict[TensorKey, dict[str, int]] = {}
    found = Gathered(losses=[answer.get("loss") for answer in answers])
    for rank, answer in enumerate(answers):
        for quantity, name, dtype, digest in answer["digests"]:
            key = TensorKey(quantity, name)
            found.dtypes.setdefault(key, getattr(torch, dtype.removeprefix("torch.")))
            versions.setdefault(key, {}).setdefault(digest, rank)
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
                found.tensors[key], found.first[key] = held, rank
    return found


def renamed(observed: Observed, stands_for: dict[TensorKey, TensorKey], of: dict[TensorKey, Tensor]) -> Any:
    """Of some tensors, those that the keys stand for, under these keys, where they have the same shape."""
    found = {name: of[key] for name, key in stands_for.items() if key in of}
    return {name: x for name, x in found.items() if x.shape == observed.tensors[name].shape}
