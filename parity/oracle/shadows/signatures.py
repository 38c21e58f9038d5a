"""What operations are given and give: their arguments as shadows hold them, what they write, the formats of results."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from parity.oracle.shadows.shadow import WIDE, Shadow, native


def opened(x: Any, key: list[Any]) -> Any:
    """An argument with what its shadows hold; to the key comes what decides on the formats of results."""
    if isinstance(x, Tensor):
        if x.dtype not in WIDE:
            key.append(x.dtype)
            return x
        key.append((x.dtype, x.dim() == 0))
        return x.held if isinstance(x, Shadow) else x.detach().to(WIDE[x.dtype])
    if type(x) in (list, tuple):
        each = [opened(y, key) for y in x]
        return each if any(isinstance(y, Tensor) for y in each) else x
    if isinstance(x, torch.dtype):
        key.append(x)
        return WIDE.get(x, x)
    key.append(x if type(x) is bool else type(x))
    return x


def tensors(x: Any) -> list[Tensor]:
    """The tensors of an argument or a result: one, or a list of them."""
    return [x] if isinstance(x, Tensor) else [y for y in x if isinstance(y, Tensor)] if x is not None else []


def is_given(arguments: Any, place: int | str) -> bool:
    """Whether an argument that is written to was given."""
    return place in arguments if isinstance(place, str) else place < len(arguments)


_WRITTEN: dict[Any, list[int | str]] = {}


def written(func: Any) -> list[int | str]:
    """The arguments that an operation writes to: places, or names of those given by keyword.

    NotImplementedError where it draws numbers, which it would do again.
    """
    if func not in _WRITTEN:
        if torch.Tag.nondeterministic_seeded in func.tags:
            name = func.overloadpacket.__name__
            raise NotImplementedError(f"{name} draws numbers that cannot be drawn again on shadows; switch it off")
        _WRITTEN[func] = [
            argument.name if argument.kwarg_only else place
            for place, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
    return _WRITTEN[func]


def functional(func: Any) -> Any:
    """The operation that returns what another one writes; None where there is none."""
    packet = getattr(torch.ops.aten, func.overloadpacket.__name__.removesuffix("_"), None)
    overload = func._overloadname.removesuffix("out").removesuffix("_") or "default"
    return getattr(packet, overload, None)


_DTYPES: dict[tuple[Any, ...], list[torch.dtype]] = {}


def output_dtypes(key: tuple[Any, ...], func: Any, args: Any, kwargs: Any) -> list[torch.dtype]:
    """The formats of an operation's results, in their order, as it gives them natively, on its device; found once."""
    if key in _DTYPES:
        return _DTYPES[key]
    try:
        out = func(*tree_map(native, args), **tree_map(native, kwargs))
        found = [x.dtype for x in tensors(out) if x.dtype in WIDE]
    except (NotImplementedError, RuntimeError, TypeError):
        given = [entry[0] for entry in key if type(entry) is tuple]
        asked = [entry for entry in key if isinstance(entry, torch.dtype) and entry in WIDE]
        dtype = given[0]
        for other in given:
            dtype = torch.promote_types(dtype, other)
        found = [asked[0] if asked else dtype] * 16
    _DTYPES[key] = found
    return found
