"""Where the reference's matrices lie in a torch.nn.Module: maps of names, and what is wrong with one."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

import torch
from torch import Tensor

from parity.errors import UsageError
from parity.tensors import TIED, places
from reference.config import Config


@dataclass(frozen=True)
class Arranged:
    """Matrices of the reference, by name, as one parameter of the module.

    arrange takes the matrices as tensors, in the order of names, and returns the parameter. It may move elements and
    leave some out (to be mapped by another parameter), and is called once, on their positions, not on their values.
    """

    names: tuple[str, ...]
    arrange: Callable[..., Tensor]

    @property
    def T(self) -> "Arranged":  # noqa: N802 - as torch calls it
        """The same, transposed."""
        return Arranged(self.names, lambda *matrices: self.arrange(*matrices).T)


def stacked(*names: str, heads: int = 1) -> Arranged:
    """Several matrices in one parameter, the rows of one under those of another, in this order.

    heads: the rows of every matrix are split into that many blocks, and the first blocks of all come first, then the
    second ones, as where queries, keys and values lie side by side for each attention head.
    """

    def arrange(*matrices: Tensor) -> Tensor:
        blocks = zip(*(matrix.tensor_split(heads) for matrix in matrices), strict=True)
        return torch.cat([part for block in blocks for part in block])

    return Arranged(names, arrange)


class NameMap:
    """Where every element of the module's parameters is found among the reference's matrices, laid end to end.

    places: for each parameter that the map names a tensor of such positions, in its shape.
    """

    def __init__(self, config: Config, parameters: Mapping[str, Tensor], names: Mapping[str, str | Arranged]) -> None:
        self.shapes = config.shapes()
        self.sizes = [prod(shape) for shape in self.shapes.values()]
        matrices = self._matrices(torch.arange(sum(self.sizes)))
        entries = dict(expanded(names, config.n_layer))
        self.places = {
            name: arranged(name, entry, matrices)
            for name, entry in entries.items()
            if name in parameters and matrices.keys() >= set(entry.names)
        }
        problems = [
            *_unmatched(entries, parameters, matrices),
            *_misshapen(entries, parameters, self.places),
            *_not_once(entries, matrices, self.places),
        ]
        if problems:
            raise UsageError(" ".join(["The name map does not fit.", *problems]))

    def write(self, tensors: Mapping[str, Tensor], matrices: Mapping[str, Any]) -> None:
        """Set the module's tensors, in place, to the reference's matrices."""
        flat = torch.cat([torch.as_tensor(matrices[name], dtype=torch.float64).flatten() for name in self.shapes])
        for name, place in self.places.items():
            tensors[name].detach().copy_(flat[place])

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's tensors as matrices of the reference: copies in float64, which holds every format exactly."""
        flat = torch.empty(sum(self.sizes), dtype=torch.float64)
        for name, place in self.places.items():
            flat[place] = tensors[name].detach().to(flat)
        return self._matrices(flat)

    def _matrices(self, flat: Tensor) -> dict[str, Tensor]:
        return {name: part.view(self.shapes[name]) for name, part in zip(self.shapes, torch.split(flat, self.sizes))}


def tied_head(config: Config, parameters: Mapping[str, Tensor], layout: NameMap) -> bool:
    """Whether one parameter is both lm_head and wte; UsageError where others are one."""
    starts = {name: start for name, start, _, _ in places(config)}
    found = False
    for parameter in dict.fromkeys(parameters.values()):
        tied = [name for name, other in parameters.items() if other is parameter]
        if len(tied) == 1:
            continue
        # Where the elements lie in either matrix, if they are those of the two.
        first = {int(layout.places[name].min()): layout.places[name] - layout.places[name].min() for name in tied}
        if first.keys() != {starts[name] for name in TIED} or not torch.equal(*first.values()):
            raise UsageError(
                f"{' and '.join(tied)} are one parameter; the reference ties no weights, and a check only lm_head to "
                "wte: untie them."
            )
        found = True
    return found


def expanded(names: Mapping[str, str | Arranged], n_layer: int) -> Iterator[tuple[str, Arranged]]:
    """The name map with {i} replaced by every layer."""
    for name, entry in names.items():
        if isinstance(entry, str):
            plain = Arranged((entry.removesuffix(".T"),), lambda matrix: matrix)
            entry = plain.T if entry.endswith(".T") else plain
        if not isinstance(entry, Arranged):
            raise UsageError(f"The name map gives {name} a {type(entry).__name__}, expected a name or stacked(...).")
        if "{i}" not in name:
            yield name, entry
            continue
        for i in map(str, range(n_layer)):
            yield (
                name.replace("{i}", i),
                Arranged(tuple(matrix.replace("{i}", i) for matrix in entry.names), entry.arrange),
            )


def arranged(name: str, entry: Arranged, matrices: Mapping[str, Tensor]) -> Tensor:
    """The positions of the matrices' elements, put where the entry has them; UsageError where it cannot."""
    try:
        place = entry.arrange(*(matrices[matrix] for matrix in entry.names))
        if not isinstance(place, Tensor) or place.dtype != torch.int64:
            raise TypeError("they may be rearranged, but not computed with")
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        given = ", ".join(f"{matrix} {tuple(matrices[matrix].shape)}" for matrix in entry.names)
        raise UsageError(f"The name map cannot make {name} of {given}: {error}.") from None
    return place


def _unmatched(
    entries: Mapping[str, Arranged], parameters: Mapping[str, Tensor], matrices: Mapping[str, Tensor]
) -> Iterator[str]:
    """What the map leaves over on either side, and what it names that is not there."""
    mapped = dict.fromkeys(matrix for entry in entries.values() for matrix in entry.names)
    sides = (("module's trained parameters", parameters, entries), ("reference's matrices", matrices, mapped))
    for side, there, named in sides:
        left = [name for name in there if name not in named]
        if left:
            yield f"Unmatched among the {side}: {', '.join(left)}."
    for side, there, named in sides:
        yield from unknown(named, side, there)
    if not all(name in entries for name in parameters):
        yield "What the reference lacks, such as the gain 1 of a norm, is to be named in frozen."


def unknown(named: Iterable[str], side: str, there: Collection[str]) -> Iterator[str]:
    """Which of the names are not there, with what may have been meant; nothing where all are."""
    near = {name: get_close_matches(name, there, n=1) for name in named if name not in there}
    if near:
        hinted = (f"{name} (is it {close[0]}?)" if close else name for name, close in near.items())
        yield f"Not among the {side}: {', '.join(hinted)}."


def _misshapen(
    entries: Mapping[str, Arranged], parameters: Mapping[str, Tensor], places: Mapping[str, Tensor]
) -> Iterator[str]:
    for name, place in places.items():
        has, given = tuple(parameters[name].shape), tuple(place.shape)
        if has != given:
            hint = "; transposed (.T) it would fit" if has == given[::-1] else ""
            yield f"{name} has the shape {has}, the map gives it {given} from {', '.join(entries[name].names)}{hint}."


def _not_once(
    entries: Mapping[str, Arranged], matrices: Mapping[str, Tensor], places: Mapping[str, Tensor]
) -> Iterator[str]:
    """Matrices of which an element goes to several places, or to none while all that they are mapped to is known."""
    count = torch.zeros(sum(matrix.numel() for matrix in matrices.values()), dtype=torch.int64)
    for place in places.values():
        count.put_(place, torch.ones_like(place), accumulate=True)
    for name, matrix in matrices.items():
        users = [user for user, entry in entries.items() if name in entry.names]
        if count[matrix].max() > 1:
            yield f"{name} is mapped more than once: to {', '.join(users)}."
        elif count[matrix].min() == 0 and users and places.keys() >= set(users):
            yield f"{name} is mapped only in part: to {', '.join(users)}."
