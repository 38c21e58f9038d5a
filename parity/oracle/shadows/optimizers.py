"""Fused optimizers, and what a gradient scaler does: in the steps that their kernels take for each element."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parity.oracle.shadows.shadow import inner_of

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution


def _adam(execution: "Execution", func: Any, args: Any, kwargs: Any) -> None:
    """Kingma and Ba (2015), with the decay of Loshchilov and Hutter (2019) where the name says W."""
    params, grads, firsts, seconds, largest, steps = args[:6]
    decoupled = "adamw" in func.overloadpacket.__name__
    lr, beta1, beta2, decay, eps = (_number(kwargs[name]) for name in ("lr", "beta1", "beta2", "weight_decay", "eps"))
    if _skipped(kwargs):
        return
    for i, param in enumerate(params):
        a, b = execution.accumulating(param.dtype), execution.rounding(param.dtype)
        p, m, v, step = (inner_of(x[i]) for x in (params, firsts, seconds, steps))
        g = _unscaled(a, inner_of(grads[i]), kwargs)
        if decay and decoupled:
            p.copy_(a.moved(p * (1 - lr * decay)))
        elif decay:
            g = a.moved(g + p * decay)
        m.copy_(b.rounded(a.moved(m * beta1) + a.moved(g * (1 - beta1), 2)))
        v.copy_(b.rounded(a.moved(v * beta2) + a.moved(g * g * (1 - beta2), 3)))
        second = v
        if kwargs["amsgrad"]:
            inner_of(largest[i]).copy_(torch.maximum(inner_of(largest[i]), v))
            second = inner_of(largest[i])
        number = float(step)
        root = a.moved(second.sqrt() / (1 - beta2**number) ** 0.5, 3)
        p.copy_(b.rounded(p - a.moved(lr / (1 - beta1**number) * m / (root + eps), 4)))


def _sgd(execution: "Execution", func: Any, args: Any, kwargs: Any) -> None:
    params, grads, momenta = args[:3]
    lr, decay, momentum, dampening = (_number(kwargs[n]) for n in ("lr", "weight_decay", "momentum", "dampening"))
    if _skipped(kwargs):
        return
    for i, param in enumerate(params):
        a, b = execution.accumulating(param.dtype), execution.rounding(param.dtype)
        p, g = inner_of(param), _unscaled(a, inner_of(grads[i]), kwargs)
        g = a.moved(g + a.moved(p * decay)) if decay else g
        if momentum:
            buffer = inner_of(momenta[i])
            new = g if kwargs["is_first_step"] else a.moved(buffer * momentum) + a.moved(g * (1 - dampening))
            buffer.copy_(b.rounded(new))
            g = a.moved(g + a.moved(buffer * momentum)) if kwargs["nesterov"] else buffer
        p.copy_(b.rounded(p + a.moved(g * lr) * (1 if kwargs["maximize"] else -1)))


def _number(x: Any) -> float:
    return float(inner_of(x)) if isinstance(x, Tensor) else float(x)


def _skipped(kwargs: Any) -> bool:
    found = kwargs.get("found_inf")
    return found is not None and bool(inner_of(found) == 1)


def _unscaled(a: Any, grad: Tensor, kwargs: Any) -> Tensor:
    scale = kwargs.get("grad_scale")
    if scale is not None:
        grad.copy_(a.moved(grad / inner_of(scale)))
    return -grad if kwargs.get("maximize") and "momentum" not in kwargs else grad


def _unscale(execution: "Execution", func: Any, args: Any, kwargs: Any) -> None:
    """Gradients times the inverse of their scale, and whether one of them is not finite."""
    grads, found, inverse = args
    finite = _all_finite(grads)
    for grad in grads:
        inner_of(grad).copy_(execution.rounding(grad.dtype).rounded(inner_of(grad) * inner_of(inverse)))
    if not finite:
        inner_of(found).fill_(1.0)


def _update_scale(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """The next scale, which is reckoned in float32 alone."""
    scale, tracker, found, *others = args
    single = inner_of(scale).float()
    func(single, tracker, inner_of(found).float(), *others, **kwargs)
    inner_of(scale).copy_(single)
    return scale


def _all_finite(grads: Sequence[Tensor]) -> bool:
    """Whether all are, in their own formats."""
    return all(bool(torch.isfinite(inner_of(grad).to(grad.dtype)).all()) for grad in grads)


SPECIAL: dict[str, Any] = {
    "_fused_adam_": _adam,
    "_fused_adamw_": _adam,
    "_fused_sgd_": _sgd,
    "_amp_foreach_non_finite_check_and_unscale_": _unscale,
    "_amp_update_scale_": _update_scale,
}
