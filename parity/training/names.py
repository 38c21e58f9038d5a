"""How the parameters of one training stand for another's: by name, transposed, stacked or split."""

import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parity.errors import UsageError
from parity.quantities import TensorKey
from parity.subjects.name_map import Arranged, arranged, stacked
from parity.words import did_you_mean

Shapes = Mapping[str, tuple[int, ...]]
Tensors = Mapping[TensorKey, Tensor]

_PART = re.compile(r"(?P<name>.+?)(?P<first>\.T)?(\[(?P<start>\d+):(?P<stop>\d+)\])?(?P<last>\.T)?$")


def read_names(path: Path) -> dict[str, Any]:
    """A map of names from a JSON file: a name to a name, or to a list of those whose rows lie under each other.

    After a name may stand .T (transposed), [start:stop] (some of the rows), or both. UsageError for what is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The map of names {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The map of names {path} is no JSON: {error}.") from None
    if not isinstance(found, dict) or not all(_is_entry(entry) for entry in found.values()):
        raise UsageError(f"The map of names {path} gives every name a name, or a list of names.")
    return found


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, str) or (
        isinstance(entry, list) and bool(entry) and all(isinstance(name, str) for name in entry)
    )


class Names:
    """Where every element of the subject's parameters is found among the other training's, laid end to end.

    names: by the subject's name, the other's: a string, a list or `parity.modules.stacked`; {i} stands for every number
    for which the subject has such a name. What is not named has the same name there, or is there tied to a parameter
    that has another one (tied: by that name). UsageError where it does not fit.
    """

    def __init__(
        self, names: Mapping[str, Any], own: Shapes, other: Shapes, tied: Mapping[str, str] | None = None
    ) -> None:
        self.own, self.other = dict(own), dict(other)
        self._sizes = [prod(shape) for shape in other.values()]
        places = torch.arange(sum(self._sizes))
        matrices = {
            name: part.view(shape) for (name, shape), part in zip(other.items(), torch.split(places, self._sizes))
        }
        entries = {name: _arranged(entry) for name, entry in self._expanded(names)}
        tied = {name: to for name, to in (tied or {}).items() if name in own and name not in entries}
        entries |= {name: _arranged(tied.get(name, name)) for name in own if name not in entries}
        self.sources = {name: entry.names for name, entry in entries.items()}
        unknown = {name: source for name, sources in self.sources.items() for source in sources if source not in other}
        if unknown:
            name, source = next(iter(unknown.items()))
            more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise UsageError(
                f"The other training has no parameter {source!r}{did_you_mean(source, other)} for {name}{more}; map it "
                "in NAMES or by --names-map."
            )
        self.places = {name: arranged(name, entry, matrices) for name, entry in entries.items()}
        self._require_shapes()
        used = torch.zeros(sum(self._sizes), dtype=torch.int64)
        for name, place in self.places.items():
            if name in tied and tied[name] in own:
                continue  # one parameter there, and two here
            used.put_(place, torch.ones_like(place), accumulate=True)
        for name, matrix in matrices.items():
            if (matrix.numel() and int(used[matrix].min()) != 1) or (matrix.numel() and int(used[matrix].max()) != 1):
                how = "more than once" if int(used[matrix].max()) > 1 else "nowhere, or only in part"
                raise UsageError(f"The other training's {name} is mapped {how}; map it in NAMES or by --names-map.")

    def _expanded(self, names: Mapping[str, Any]) -> list[tuple[str, Any]]:
        found = []
        for name, entry in names.items():
            if "{i}" not in name:
                if name not in self.own:
                    raise UsageError(f"The map names {name!r}, which is no parameter{did_you_mean(name, self.own)}.")
                found.append((name, entry))
                continue
            pattern = re.compile(re.escape(name).replace(re.escape("{i}"), r"(\d+)") + "$")
            numbers = [match[1] for own in self.own if (match := pattern.match(own))]
            if not numbers:
                raise UsageError(f"The map names {name!r}, and no parameter is called so for any number.")
            found += [(name.replace("{i}", i), _numbered(entry, i)) for i in numbers]
        return found

    def _require_shapes(self) -> None:
        for name, place in self.places.items():
            has, given = tuple(self.own[name]), tuple(place.shape)
            if has != given:
                hint = "; transposed (.T) it would fit" if has == given[::-1] else ""
                sources = " and ".join(self.sources[name])
                raise UsageError(f"{name} has the shape {has}, the other training's {sources} {given}{hint}.")

    def to_own(self, tensors: Tensors) -> dict[TensorKey, Tensor]:
        """The other training's tensors under the subject's names; those of no parameter keep theirs."""
        found = {key: tensor for key, tensor in tensors.items() if key.name not in self.other}
        for quantity in dict.fromkeys(key.quantity for key in tensors if key.name in self.other):
            of_quantity = {key.name: tensor for key, tensor in tensors.items() if key.quantity == quantity}
            for name, sources in self.sources.items():
                if any(source not in of_quantity for source in sources):
                    continue
                if any(tuple(of_quantity[source].shape) != tuple(self.other[source]) for source in sources):
                    found[TensorKey(quantity, name)] = of_quantity[sources[0]]  # one number for all elements
                    continue
                flat = torch.full((sum(self._sizes),), torch.nan, dtype=torch.float64)
                for source, part in zip(self.other, torch.split(flat, self._sizes)):
                    if source in sources:
                        part.copy_(of_quantity[source].flatten())
                found[TensorKey(quantity, name)] = flat[self.places[name]]
        return found

    def to_other(self, tensors: Tensors) -> dict[TensorKey, Tensor]:
        """The subject's tensors under the other training's names; those of no parameter keep theirs."""
        found = {key: tensor for key, tensor in tensors.items() if key.name not in self.own}
        for quantity in dict.fromkeys(key.quantity for key in tensors if key.name in self.own):
            flat = torch.full((sum(self._sizes),), torch.nan, dtype=torch.float64)
            single: dict[str, Tensor] = {}
            for name, place in self.places.items():
                tensor = tensors.get(TensorKey(quantity, name))
                if tensor is not None and tensor.shape == place.shape:
                    flat[place] = tensor.to(flat)
                elif tensor is not None:
                    single |= dict.fromkeys(self.sources[name], tensor)
            for source, part in zip(self.other, torch.split(flat, self._sizes)):
                if source in single:
                    found[TensorKey(quantity, source)] = single[source]
                elif not bool(part.isnan().all()) or not part.numel():
                    found[TensorKey(quantity, source)] = part.view(self.other[source]).clone()
        return found


def _numbered(entry: Any, i: str) -> Any:
    if isinstance(entry, Arranged):
        return Arranged(tuple(name.replace("{i}", i) for name in entry.names), entry.arrange)
    return entry.replace("{i}", i) if isinstance(entry, str) else [part.replace("{i}", i) for part in entry]


def _arranged(entry: Any) -> Arranged:
    if isinstance(entry, Arranged):
        return entry
    parts = [entry] if isinstance(entry, str) else list(entry)
    found = [_PART.match(part) for part in parts]

    def arrange(*matrices: Tensor) -> Tensor:
        return (
            torch.cat([_part(matrix, match) for matrix, match in zip(matrices, found)])
            if len(parts) > 1
            else _part(matrices[0], found[0])
        )

    return Arranged(tuple(match["name"] if match else part for match, part in zip(found, parts)), arrange)


def _part(matrix: Tensor, match: Any) -> Tensor:
    matrix = matrix.T if match["first"] else matrix
    matrix = matrix[int(match["start"]) : int(match["stop"])] if match["start"] else matrix
    return matrix.T if match["last"] else matrix


__all__ = ["Names", "read_names", "stacked"]
