"""The quantities of a training step, and how a tensor of one is told from another."""

from collections.abc import Sequence
from typing import NamedTuple

FIELDS = {
    "sites": "site",
    "logits": "logits",
    "loss": "loss",
    "site_grads": "site grad",
    "grads": "grad",
    "m": "m",
    "v": "v",
    "params": "param",
}
"""The fields of a Step and the quantities that they hold, in the order in which a step computes them."""

SITES = ("site", "site grad")
"""Quantities that a subject is asked for only where its intermediates are wanted, and of which it may expose any."""

STATE = ("param", "m", "v")
"""The quantities that an update makes, in the order in which a state holds them."""


MATRICES = ("grad", "m", "v", "param")
"""The quantities with a tensor for each of the model's matrices, of which a subject may leave out some."""


def in_short(unchecked: Sequence[str]) -> str:
    """What went unchecked, quantities and tensors such as "grad wpe": those of the same tensors together."""
    names: dict[str, list[str]] = {}
    for quantity, _, name in (entry.partition(" ") for entry in unchecked if entry not in FIELDS.values()):
        names.setdefault(name, []).append(quantity)
    parts: dict[str, list[str]] = {}
    for name, quantities in names.items():
        parts.setdefault(", ".join(quantities), []).append(name)
    whole = [entry for entry in unchecked if entry in FIELDS.values()]
    tensors = [f"{quantities} of {', '.join(left)}" for quantities, left in parts.items()]
    return "; ".join([*([", ".join(whole)] if whole else []), *tensors])


class TensorKey(NamedTuple):
    """Which tensor of a step: its quantity and name, and its place in the batch if it belongs to a place.

    name: of a matrix or a site; "logits" and "loss" for these. document: of logits and sites; position: of sites.
    """

    quantity: str
    name: str
    document: int | None = None
    position: int | None = None

    @property
    def tensor(self) -> str:
        """The tensor within its quantity, in words: layer0.attn_wq, document 0."""
        return self.element(())

    def element(self, index: tuple[int, ...]) -> str:
        """An element within its quantity, in words: layer0.attn_wq[3,7], document 0[0,7]."""
        inside = f"[{','.join(map(str, index))}]" if index else ""
        if self.document is None:
            return f"{self.name}{inside}"
        if self.position is None:
            return f"document {self.document}{inside}"
        return f"{self.name}{inside} at document {self.document}, position {self.position}"

    def described(self, index: tuple[int, ...] = ()) -> str:
        """The tensor, or an element of it, with its quantity: grad layer0.attn_wq[3,7]; the loss is its own."""
        return self.name if self.quantity == self.name == "loss" else f"{self.quantity} {self.element(index)}"

    def __str__(self) -> str:
        return self.tensor
