"""Softmaxes and activations: exponentials of differences that were rounded, and terms that cancel."""

from typing import Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import Arithmetic


def _softmax(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, dim = args[:2]
    if a.noise is None or not x.dim():
        return torch.softmax(x, dim)
    weights = exponential(a, x - x.amax(dim, keepdim=True))
    return a.moved(weights / a.sum(weights, [dim], True)).nan_to_num(
        0.0 if "safe" in func.overloadpacket.__name__ else torch.nan
    )


def exponential(a: Arithmetic, x: Tensor) -> Tensor:
    """exp of differences that were rounded: off by as much as they."""
    out = x.exp()
    return a.moved_by(out, out * (1 + x.abs().clamp_max(1e3)) * a.u) if a.noise else out


def _log_softmax(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, dim = args[:2]
    if a.noise is None or not x.dim():
        return torch.log_softmax(x, dim)
    below = a.moved(x - x.amax(dim, keepdim=True))
    b = a.short if x.device.type == "cpu" else a  # where the kernel keeps the sum and its logarithm in the format
    total = b.moved(a.sum(exponential(a, below), [dim], True))
    return below - b.moved(a.moved(total.log()))


def _softmax_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, out, dim = args[:3]
    products = a.moved(grad * out)
    return a.moved(products - out * a.sum(products, [dim], True))


def _log_softmax_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, out, dim = args[:3]
    return grad - a.moved(exponential(a, out) * a.sum(grad, [dim], True))


def _gelu(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    return a.moved_by(out, args[0].abs() * (2 * a.u)) if a.noise else out  # 1 + tanh cancels


def _glu_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Where the gate saturates, 1 - sigmoid cancels; on CPUs the sigmoid is kept in the format."""
    grad, x, dim = args
    value, gate = x.chunk(2, dim)
    b = a.short if x.device.type == "cpu" else a
    open_ = b.moved(a.moved(gate.sigmoid()))
    of_gate = a.moved(a.moved(1 - open_) * open_ * value * grad, 2)
    return torch.cat([a.moved(grad * open_), of_gate], dim)


def _activation_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Of GELU, SiLU, hardswish and tanh: terms that cancel, each of the gradient's size."""
    out = func(*args, **kwargs)
    return a.moved_by(out, args[0].abs() * (2 * a.u)) if a.noise else out


MODELS = {
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "_softmax_backward_data": _softmax_backward,
    "_log_softmax_backward_data": _log_softmax_backward,
    "gelu": _gelu,
    "gelu_backward": _activation_backward,
    "silu_backward": _activation_backward,
    "tanh_backward": _activation_backward,
    "hardswish": _gelu,
    "hardswish_backward": _activation_backward,
    "glu_backward": _glu_backward,
}
