"""Normalisations, forward and backward: by layer, root mean square, group and batch, in the steps that kernels take."""

from math import inf
from typing import Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import Arithmetic


def _layer_norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, shape, weight, bias, eps = args
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = a.mean(x, dims, True)
    centred = a.moved(x - mean)
    rstd = a.moved((a.mean(centred.square(), dims, True) + eps).rsqrt(), 2)
    return (_scaled(a, centred * rstd, weight, bias), mean, rstd)


def _scaled(a: Arithmetic, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = a.moved(x)
    x = x if weight is None else a.moved(x * weight)
    return x if bias is None else x + bias


def _layer_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, shape, mean, rstd, weight, bias, wanted = args
    dims = list(range(x.dim() - len(shape), x.dim()))
    others = list(range(x.dim() - len(shape)))
    normed = a.moved((x - mean) * rstd)
    scaled = grad if weight is None else a.moved(grad * weight)
    of_x = _norm_backward(a, scaled, normed, rstd, dims) if wanted[0] else None
    of_weight = _summed_over(a, grad * normed, others) if wanted[1] and weight is not None else None
    return of_x, of_weight, _summed_over(a, grad, others) if wanted[2] and bias is not None else None


def _summed_over(a: Arithmetic, x: Tensor, dims: list[int]) -> Tensor:
    """The sum over rows, one by one; CPUs keep it in the format meanwhile."""
    if not dims:
        return x.clone()
    return (a.short if x.device.type == "cpu" else a).sum(x, dims, run=inf)


def _norm_backward(a: Arithmetic, scaled: Tensor, normed: Tensor, rstd: Tensor, dims: list[int]) -> Tensor:
    along = a.moved(normed * a.mean(scaled * normed, dims, True))
    return a.moved(
        rstd * a.moved_by(out := scaled - a.mean(scaled, dims, True) - along, (scaled.abs() + out.abs()) * a.u)
    )


def _rms_norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, shape, weight, eps = args
    dims = list(range(x.dim() - len(shape), x.dim()))
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    rstd = a.moved((a.mean(x * x, dims, True) + eps).rsqrt(), 2)
    return (_scaled(a, x * rstd, weight, None), rstd)


def _rms_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, shape, rstd, weight, wanted = args
    dims = list(range(x.dim() - len(shape), x.dim()))
    others = list(range(x.dim() - len(shape)))
    normed = a.moved(x * rstd)
    scaled = grad if weight is None else a.moved(grad * weight)
    along = a.moved(normed * a.mean(scaled * normed, dims, True))
    of_weight = _summed_over(a, grad * normed, others) if wanted[1] and weight is not None else None
    return a.moved(rstd * a.moved(scaled - along)) if wanted[0] else None, of_weight


def _group_norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, weight, bias, n, c, _, groups, eps = args
    parts = x.reshape(n, groups, -1)
    mean = a.mean(parts, [2], True)
    rstd = a.moved((a.mean((parts - mean).square(), [2], True) + eps).rsqrt(), 2)
    normed = a.moved((parts - mean) * rstd).reshape(x.shape)
    along = (1, c) + (1,) * (x.dim() - 2)
    weights = (None if p is None else p.reshape(along) for p in (weight, bias))
    return _scaled(a, normed, *weights), mean.reshape(n, groups), rstd.reshape(n, groups)


def _group_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, mean, rstd, weight, n, c, _, groups, wanted = args
    mean, rstd = mean.reshape(n, groups, 1), rstd.reshape(n, groups, 1)
    normed = a.moved((x.reshape(n, groups, -1) - mean) * rstd)
    along = (1, c) + (1,) * (x.dim() - 2)
    others = [d for d in range(x.dim()) if d != 1]
    scaled = grad if weight is None else a.moved(grad * weight.reshape(along))
    of_x = _norm_backward(a, scaled.reshape(n, groups, -1), normed, rstd, [2]).reshape(x.shape) if wanted[0] else None
    of_weight = a.sum(grad * normed.reshape(x.shape), others) if wanted[1] else None
    return of_x, of_weight, a.sum(grad, others) if wanted[2] else None


def _batch_norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Running statistics are written in place, as the operation does."""
    x, weight, bias, running_mean, running_var, training, momentum, eps = args
    others = [d for d in range(x.dim()) if d != 1]
    if not training:
        rstd = a.moved((running_var + eps).rsqrt(), 2)
        return _by_channel(a, x, running_mean, rstd, weight, bias), x.new_empty(0), x.new_empty(0)
    mean = a.mean(x, others)
    variance = a.mean((x - _along(x, mean)).square(), others)
    rstd = a.moved((variance + eps).rsqrt(), 2)
    number = x.numel() // x.shape[1]
    for running, now in ((running_mean, mean), (running_var, variance * (number / max(1, number - 1)))):
        if running is not None:
            running.copy_(a.results[1].rounded(a.moved(running * (1 - momentum)) + a.moved(now * momentum)))
    if a.noise is not None:  # both are used as they are saved
        mean, rstd = (result.moved(saved) for result, saved in zip(a.results[1:], (mean, rstd)))
    return _by_channel(a, x, mean, rstd, weight, bias), mean, rstd


def _along(x: Tensor, of_channels: Tensor) -> Tensor:
    return of_channels.reshape((1, -1) + (1,) * (x.dim() - 2))


def _by_channel(
    a: Arithmetic, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Each channel times one number plus another one, as kernels for CPUs do; they cancel where the mean is large."""
    factor = rstd if weight is None else a.moved(rstd * weight)
    offset = -a.moved(mean * factor)
    offset = offset if bias is None else a.moved(offset + bias)
    return a.moved(x * _along(x, factor)) + _along(x, offset)


def _batch_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, weight, running_mean, running_var, mean, rstd, training, eps, wanted = args
    others = [d for d in range(x.dim()) if d != 1]
    if not training:
        mean, rstd = running_mean, a.moved((running_var + eps).rsqrt(), 2)
    mean, rstd = _along(x, mean), _along(x, rstd)
    normed = a.moved((x - mean) * rstd)
    scaled = grad if weight is None else a.moved(grad * _along(x, weight))
    of_x = None
    if wanted[0]:
        of_x = _norm_backward(a, scaled, normed, rstd, others) if training else a.moved(scaled * rstd)
    of_weight = a.sum(grad * normed, others) if wanted[1] else None
    return of_x, of_weight, a.sum(grad, others) if wanted[2] else None


MODELS = {
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "_fused_rms_norm": _rms_norm,
    "_fused_rms_norm_backward": _rms_norm_backward,
    "native_group_norm": _group_norm,
    "native_group_norm_backward": _group_norm_backward,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
}
