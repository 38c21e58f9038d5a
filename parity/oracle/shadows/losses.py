"""Losses: differences that are rounded to their format before they are squared, and sums of picked elements."""

from typing import Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import RUN, Arithmetic

_MEAN, _SUM = 1, 2
"""How losses are reduced: ATen's numbers."""


def _nll_loss(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, target, weight, reduction, ignored = args
    out, total = func(*args)
    if a.noise is None or reduction == 0:
        return out, total
    picked, _ = func(x * x, target, weight, 2, ignored)
    number = max(1, int((target != ignored).sum()))
    scale = 1 if reduction == 2 else number
    b = a.short if x.device.type == "cpu" else a  # whose kernel sums in the format
    return b.summed(out, picked.abs() / scale**2, number, RUN), total


def _of_differences(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, y, *others = args
    reduction = others[0] if others else _MEAN
    difference = a.short.moved(x - y)
    each = a.short.moved(func(difference, torch.zeros_like(difference), 0, *others[1:]))
    return a.mean(each) if reduction == _MEAN else a.sum(each) if reduction == _SUM else each


def _of_differences_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, y, *others = args
    difference = a.short.moved(x - y)
    out: Tensor = func(grad, difference, torch.zeros_like(difference), *others, **kwargs)
    if a.noise is not None and others[0] == _MEAN:  # one over their number is rounded once for all
        out = out * (1 + a.short.u * a.noise.number())
    return a.short.moved(out)


MODELS = {
    "nll_loss_forward": _nll_loss,
    "nll_loss2d_forward": _nll_loss,
    **dict.fromkeys(("mse_loss", "smooth_l1_loss", "huber_loss"), _of_differences),
    **dict.fromkeys(("mse_loss_backward", "smooth_l1_loss_backward", "huber_loss_backward"), _of_differences_backward),
}
