"""The tensor that says it has a program's number format and holds float64 inside."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import override

WIDE = {
    torch.float64: torch.float64,
    torch.float32: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}
"""The formats that shadows stand for, and what they hold inside."""


class Shadow(Tensor):
    """A tensor of a declared format (dtype) whose numbers are those of `held`, in float64 or complex128.

    A view of a shadow holds a view of its inner tensor, so that what is written through one is seen through the other.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, dtype: torch.dtype) -> "Shadow":
        """A shadow of that format over these numbers, which it does not copy."""
        made: Shadow = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=dtype,
            device=inner.device,
        )
        made.held = inner
        return made

    def __init__(self, inner: Tensor, dtype: torch.dtype) -> None:
        pass

    @override
    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Shadow({self.held}, dtype={self.dtype})"

    @override
    def __deepcopy__(self, memo: Any) -> Tensor:
        """A copy with all that it holds; of a parameter a parameter."""
        with _disable_current_modes(), torch.no_grad():
            made: Tensor = Shadow(self.held.clone(), self.dtype)
            if isinstance(self, torch.nn.Parameter):
                made = torch.nn.Parameter(made, requires_grad=self.requires_grad)
        memo[id(self)] = made if made.requires_grad else made.requires_grad_(self.requires_grad)
        return memo[id(self)]  # type: ignore[no-any-return]

    @classmethod
    @override
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        from parity.oracle.shadows.execution import Execution

        return Execution().run(func, args, kwargs or {})


def inner_of(tensor: Tensor) -> Tensor:
    """The numbers of a tensor of either kind, in float64 or complex128; of a shadow, those that it holds, uncopied."""
    with _disable_current_modes():
        tensor = tensor.detach()
        if isinstance(tensor, Shadow):
            return tensor.held
        return tensor.to(WIDE.get(tensor.dtype, tensor.dtype))


def native(x: Any) -> Any:
    """A shadow as a tensor of its format, a copy with its rounded numbers; anything else as it is."""
    return x.held.to(x.dtype, copy=True) if isinstance(x, Shadow) else x


def in_shadow(tensor: Tensor) -> None:
    """Turn a tensor into a shadow of itself, in place: whoever has it, a module or an optimizer, has the shadow.

    Integers stay as they are. RuntimeError where something holds the tensor in a way that forbids it; see exchangeable.
    """
    if tensor.dtype not in WIDE or isinstance(tensor, Shadow):
        return
    with _disable_current_modes(), torch.no_grad():
        shadow: Tensor = Shadow(tensor.detach().to(WIDE[tensor.dtype], copy=True), tensor.dtype)
        if isinstance(tensor, torch.nn.Parameter):
            shadow = torch.nn.Parameter(shadow, requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, shadow)  # type: ignore[no-untyped-call]


@contextmanager
def exchangeable(module: torch.nn.Module) -> Iterator[None]:
    """Within it, a module's tensors can be exchanged: recurrent layers let go of their weak references to them."""
    recurrent = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
    for part in recurrent:
        part._flat_weight_refs = []
    yield
    for part in recurrent:
        part._flat_weight_refs = [None if x is None else weakref.ref(x) for x in part._flat_weights]
