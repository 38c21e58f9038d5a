"""Operations that draw numbers: shadows get the same as the program without them, drawn in its own formats."""

from typing import TYPE_CHECKING, Any

import torch

from parity.oracle.shadows.shadow import WIDE, Shadow, inner_of, native

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution

_IN_PLACE = tuple(
    f"{name}_"
    for name in ("bernoulli", "normal", "uniform", "random", "exponential", "geometric", "cauchy", "log_normal")
)
_DRAWN = (
    *("bernoulli", "multinomial", "normal", "poisson", "rand", "randn", "randint", "randperm"),
    *("rand_like", "randn_like", "randint_like"),
)


def _drawn_in_place(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    execution.random.add(func.overloadpacket.__name__)
    into, *others = args
    if not isinstance(into, Shadow):
        return func(into, *map(native, others), **kwargs)
    drawn = func(torch.empty(into.shape, dtype=into.dtype, device=into.device), *map(native, others), **kwargs)
    into.held.copy_(drawn)
    return into


def _drawn(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    execution.random.add(func.overloadpacket.__name__)
    out = func(*map(native, args), **kwargs)
    return Shadow(out.to(WIDE[out.dtype]), out.dtype) if out.dtype in WIDE else out


def _dropout(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """Dropout in one operation: its mask drawn in the program's format, times what is left."""
    execution.random.add(func.overloadpacket.__name__)
    x, p, train = args
    if not train or p == 0:
        return x.clone(), torch.ones(x.shape, dtype=torch.bool, device=x.device)
    _, mask = func(torch.ones(x.shape, dtype=x.dtype, device=x.device), p, train)
    out = inner_of(x) * mask * (0.0 if p == 1 else 1 / (1 - p))
    return Shadow(execution.rounding(x.dtype).rounded(out, 2), x.dtype), mask


SPECIAL: dict[str, Any] = {
    **dict.fromkeys(_IN_PLACE, _drawn_in_place),
    **dict.fromkeys(_DRAWN, _drawn),
    "native_dropout": _dropout,
}
