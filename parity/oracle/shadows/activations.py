"""Softmaxes, activations and losses: exponentials of differences that were rounded, and terms that cancel."""

from typing import Any

import torch

from parity.oracle.shadows.noise import Arithmetic


def _softmax(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    out = torch.softmax(args[0], args[1])
    # The distance to the largest is rounded, and so multiplied into the exponential.
    return a.moved_by(out, out * (3 - out.clamp_min(1e-300).log()) * a.u) if a.noise else out


def _log_softmax(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, dim = args[:2]
    out = torch.log_softmax(x, dim)
    if a.noise is None:
        return out
    return a.moved(out, 2) + a.moved_by(torch.zeros_like(shared := out.amax(dim, keepdim=True)), (1 - shared) * a.u)


def _softmax_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, out, dim = args[:3]
    products = a.moved(grad * out)
    return a.moved(products - out * a.sum(products, [dim], True))


def _log_softmax_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, out, dim = args[:3]
    exponential = out.exp()
    exponential = a.moved_by(exponential, exponential * (2 - out) * a.u) if a.noise else exponential
    return grad - a.moved(exponential * a.sum(grad, [dim], True))


def _gelu(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    return a.moved_by(out, args[0].abs() * (2 * a.u)) if a.noise else out  # 1 + tanh cancels


def _activation_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Of GELU, SiLU and tanh: terms that cancel, each of the gradient's size."""
    out = func(*args, **kwargs)
    return a.moved_by(out, args[0].abs() * (2 * a.u)) if a.noise else out


def _nll_loss(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, target, weight, reduction, ignored = args
    out, total = func(*args)
    if a.noise is None or reduction == 0:
        return out, total
    picked, _ = func(x * x, target, weight, 2, ignored)
    number = max(1, int((target != ignored).sum()))
    scale = 1 if reduction == 2 else number
    return a.summed(out, picked.abs() / scale**2, number), total


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
    "nll_loss_forward": _nll_loss,
    "nll_loss2d_forward": _nll_loss,
}
