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
    out = func(execution.given_before(x, inner_of(x)), **{**kwargs, "dtype": WIDE[dtype]})
    if out.data_ptr() == inner_of(x).data_ptr():
        out = out.clone()
    return Shadow(_cast(execution, out, x, dtype), dtype)


def _cast(execution: "Execution", numbers: Tensor, source: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of a source as they are in a format: rounded in a shorter one, and where it has no such integers."""
    if execution.noise is not None and execution.noise.wide:
        return numbers
    if source.dtype not in WIDE:
        lost = not torch.equal(source.to(dtype).to(source.dtype), source)
        return execution.rounding(dtype).rounded(numbers) if lost else numbers
    if UNIT[dtype] > UNIT[source.dtype]:
        return execution.rounding(dtype).rounded(numbers)
    return execution.rounding(dtype).scaled(numbers) if dtype == torch.float16 != source.dtype else numbers


def _copy(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """A copy into a tensor that is there, and may be of another format."""
    into, source = args[0], args[1]
    if into.dtype not in WIDE:
        return func(into, inner_of(source) if isinstance(source, Shadow) else source)
    numbers = _cast(execution, inner_of(source), source, into.dtype)
    if isinstance(into, Shadow):
        into.held.copy_(numbers)
    else:
        execution.wrote_before |= WIDE[into.dtype] is not into.dtype
        into.copy_(numbers)
    return into


def _foreach_copy(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    for into, source in zip(args[0], args[1]):
        _copy(execution, torch.ops.aten.copy_.default, (into, source), {})
    return args[0]


def _item(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    return inner_of(args[0]).item()


def _lift(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor made of Python's numbers: a constant of the program."""
    x = args[0]
    if x.dtype not in WIDE:
        return func(x)
    return Shadow(execution.given(inner_of(x).clone(), x.dtype), x.dtype)


def _conjugate(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """A copy, where torch has a view that is conjugated when it is read; what shadows hold is read as it lies."""
    return Shadow(inner_of(args[0]).conj_physical(), args[0].dtype)


def _negated(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    return Shadow(-inner_of(args[0]), args[0].dtype)


def _sparse(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    raise NotImplementedError("sparse gradients cannot be followed on shadows; make them with sparse=False")


SPECIAL: dict[str, Any] = {
    "_to_copy": _to_copy,
    "copy_": _copy,
    "_foreach_copy_": _foreach_copy,
    "_local_scalar_dense": _item,
    "lift_fresh": _lift,
    "_conj": _conjugate,
    "_neg_view": _negated,
    "_sparse_coo_tensor_with_dims_and_tensors": _sparse,
}
