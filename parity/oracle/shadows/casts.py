"""Casts, copies and what leaves tensors."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import UNIT
from parity.oracle.shadows.shadow import WIDE, Shadow, inner_of

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution


def _to_copy(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """A cast; into a shorter format it rounds."""
    x, asked = args[0], kwargs.get("dtype")
    dtype = asked or x.dtype
    if dtype not in WIDE or (x.dtype not in WIDE and not execution.noise):
        out = func(inner_of(x) if x.dtype in WIDE else x, **kwargs)
        return out if dtype not in WIDE else Shadow(out.to(WIDE[dtype]), dtype)
    out = func(inner_of(x), **{**kwargs, "dtype": WIDE[dtype]})
    if out.data_ptr() == inner_of(x).data_ptr():
        out = out.clone()
    if execution.noise and not execution.noise.wide and _rounds(x, dtype):
        out = execution.rounding(dtype).moved(out)
    return Shadow(out, dtype)


def _rounds(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether a cast may round: to a shorter format, or integers that it has no numbers for."""
    if x.dtype in WIDE:
        return UNIT[dtype] > UNIT[x.dtype]
    return not torch.equal(x.to(dtype).to(x.dtype), x)


def _copy(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """A copy into a tensor that is there, and may be of another format."""
    into, source = args[0], args[1]
    if into.dtype not in WIDE:
        return func(into, inner_of(source) if isinstance(source, Shadow) else source)
    numbers = inner_of(source)
    if execution.noise and not execution.noise.wide and source.dtype in WIDE and _rounds(source, into.dtype):
        numbers = execution.rounding(into.dtype).moved(numbers)
    if isinstance(into, Shadow):
        into.held.copy_(numbers)
    else:
        into.copy_(numbers)
    return into


def _foreach_copy(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    for into, source in zip(args[0], args[1]):
        _copy(execution, torch.ops.aten.copy_.default, (into, source), {})
    return args[0]


def _item(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    return inner_of(args[0]).item()


SPECIAL: dict[str, Any] = {
    "_to_copy": _to_copy,
    "copy_": _copy,
    "_foreach_copy_": _foreach_copy,
    "_local_scalar_dense": _item,
}
