"""Models of operations that do more than move or round: casts, sums, products, softmaxes, norms, losses, convolutions.

A model gives what the operation gives in float64, moved by the partial results that are rounded on the way; the
rounding of what it returns to its format is added by the execution. Formulas are those of torch's own kernels.
"""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parity.oracle.shadows import attention, gated, optimizers, randomness
from parity.oracle.shadows.noise import UNIT, Arithmetic
from parity.oracle.shadows.operations import PRODUCTS
from parity.oracle.shadows.shadow import WIDE, Shadow, inner_of

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution

aten = torch.ops.aten

Model = Callable[[Arithmetic, Any, Any, Any], Any]
"""Of an operation on float64: (arithmetic, operation, its arguments, keyword arguments) -> what it gives."""


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
        _copy(execution, aten.copy_.default, (into, source), {})
    return args[0]


def _item(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    return inner_of(args[0]).item()


def _product(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    added, first, name = PRODUCTS[func.overloadpacket.__name__]
    left, right = args[first : first + 2]
    out = a.product(getattr(aten, name).default, left, right, left.shape[-1])
    if added is None:
        return out
    # Seldom scaled, so that the scalars' own rounding is left out.
    return args[added] * kwargs.get("beta", 1) + out * kwargs.get("alpha", 1)


def _sum(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    return a.sum(args[0], _dims(args, kwargs), *_keepdim(args, kwargs))


def _mean(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    return a.mean(args[0], _dims(args, kwargs), *_keepdim(args, kwargs))


def _dims(args: Any, kwargs: Any) -> list[int] | None:
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return [dims] if isinstance(dims, int) else dims


def _keepdim(args: Any, kwargs: Any) -> tuple[bool]:
    return (args[2] if len(args) > 2 else kwargs.get("keepdim", False),)


def _cumsum(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, dim = args[0], args[1]
    return a.summed(x.cumsum(dim), (x * x).cumsum(dim), x.shape[dim] if x.dim() else 1)


def _norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Norms, variances and the like: sums of squares, whose terms have one sign."""
    out = func(*args, **kwargs)
    moved = [a.moved(x, 3) for x in (out if isinstance(out, (list, tuple)) else [out])]
    return type(out)(moved) if isinstance(out, (list, tuple)) else moved[0]


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
    return a.sum(x, dims) if dims else x.clone()


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
    x, weight, bias, n, c, hw, groups, eps = args
    parts = x.reshape(n, groups, -1)
    mean = a.mean(parts, [2], True)
    rstd = a.moved((a.mean((parts - mean).square(), [2], True) + eps).rsqrt(), 2)
    normed = a.moved((parts - mean) * rstd).reshape(x.shape)
    along = (1, c) + (1,) * (x.dim() - 2)
    weights = (None if p is None else p.reshape(along) for p in (weight, bias))
    return _scaled(a, normed, *weights), mean.reshape(n, groups), rstd.reshape(n, groups)


def _group_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, mean, rstd, weight, n, c, hw, groups, wanted = args
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
    along = (1, -1) + (1,) * (x.dim() - 2)
    if not training:
        rstd = a.moved((running_var + eps).rsqrt(), 2)
        normed = (x - running_mean.reshape(along)) * rstd.reshape(along)
        weights = (None if p is None else p.reshape(along) for p in (weight, bias))
        return _scaled(a, normed, *weights), x.new_empty(0), x.new_empty(0)
    mean = a.mean(x, others)
    centred = a.moved(x - mean.reshape(along))
    variance = a.mean(centred.square(), others)
    rstd = a.moved((variance + eps).rsqrt(), 2)
    number = x.numel() // x.shape[1]
    for running, now in ((running_mean, mean), (running_var, variance * (number / max(1, number - 1)))):
        if running is not None:
            running.copy_(a.moved(a.moved(running * (1 - momentum)) + a.moved(now * momentum)))
    weights = (None if p is None else p.reshape(along) for p in (weight, bias))
    return _scaled(a, centred * rstd.reshape(along), *weights), mean, rstd


def _batch_norm_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, weight, running_mean, running_var, mean, rstd, training, eps, wanted = args
    others = [d for d in range(x.dim()) if d != 1]
    along = (1, -1) + (1,) * (x.dim() - 2)
    if not training:
        mean, rstd = running_mean, a.moved((running_var + eps).rsqrt(), 2)
    mean, rstd = mean.reshape(along), rstd.reshape(along)
    normed = a.moved((x - mean) * rstd)
    scaled = grad if weight is None else a.moved(grad * weight.reshape(along))
    of_x = None
    if wanted[0]:
        of_x = _norm_backward(a, scaled, normed, rstd, others) if training else a.moved(scaled * rstd)
    of_weight = a.sum(grad * normed, others) if wanted[1] else None
    return of_x, of_weight, a.sum(grad, others) if wanted[2] else None


def _nll_loss(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, target, weight, reduction, ignored = args
    out, total = func(*args)
    if a.noise is None or reduction == 0:
        return out, total
    picked, _ = func(x * x, target, weight, 2, ignored)
    number = max(1, int((target != ignored).sum()))
    scale = 1 if reduction == 2 else number
    return a.summed(out, picked.abs() / scale**2, number), total


def _convolution(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, weight, bias, *others = args
    transposed = others[3]
    terms = prod(weight.shape[2:]) * (weight.shape[0] if transposed else weight.shape[1])
    out = a.product(lambda left, right: func(left, right, None, *others), x, weight, terms)
    return out if bias is None else out + bias.reshape((1, -1) + (1,) * (out.dim() - 2))


def _convolution_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, weight, biases, *others, wanted = args
    of_x, of_weight, of_bias = func(grad, x, weight, biases, *others, wanted)
    if a.noise is None:
        return of_x, of_weight, of_bias
    squares = func(grad.square(), x.square(), weight.square(), biases, *others, wanted)
    spatial = grad.numel() // max(1, grad.shape[1])
    terms = (prod(weight.shape[2:]) * weight.shape[0], spatial, spatial)
    outs = zip((of_x, of_weight, of_bias), squares, terms)
    return tuple(None if out is None else a.summed(out, square, n) for out, square, n in outs)


def _accumulating(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Sums into places: gradients of embeddings, indexing, pooling, padding and repetition."""
    out = func(*args, **kwargs)
    if a.noise is None:
        return out
    squared = [x.square() if isinstance(x, Tensor) and x.dtype == torch.float64 else x for x in args]
    return a.summed(out, func(*squared, **kwargs), 2)


MODELS: dict[str, Model] = {
    **dict.fromkeys(PRODUCTS, _product),
    "sum": _sum,
    "nansum": _sum,
    "mean": _mean,
    "cumsum": _cumsum,
    **dict.fromkeys(
        ("norm", "linalg_vector_norm", "_foreach_norm", "var", "std", "var_mean", "std_mean", "native_norm"), _norm
    ),
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "_softmax_backward_data": _softmax_backward,
    "_log_softmax_backward_data": _log_softmax_backward,
    "gelu": _gelu,
    "gelu_backward": _activation_backward,
    "silu_backward": _activation_backward,
    "tanh_backward": _activation_backward,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "_fused_rms_norm": _rms_norm,
    "_fused_rms_norm_backward": _rms_norm_backward,
    "native_group_norm": _group_norm,
    "native_group_norm_backward": _group_norm_backward,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
    "nll_loss_forward": _nll_loss,
    "nll_loss2d_forward": _nll_loss,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    **dict.fromkeys(
        (
            "embedding_dense_backward",
            "index_add",
            "scatter_add",
            "index_put",
            "_index_put_impl",
            "max_pool2d_with_indices_backward",
            "avg_pool2d",
            "avg_pool2d_backward",
            "_adaptive_avg_pool2d",
            "_adaptive_avg_pool2d_backward",
            "upsample_nearest2d_backward",
            "unfold_backward",
            "col2im",
            "reflection_pad2d_backward",
        ),
        _accumulating,
    ),
}
"""By name, of operations whose results are then rounded to their formats."""

SPECIAL: dict[str, Any] = {
    "_to_copy": _to_copy,
    "copy_": _copy,
    "_foreach_copy_": _foreach_copy,
    "_local_scalar_dense": _item,
    **gated.SPECIAL,
    **randomness.SPECIAL,
    **attention.SPECIAL,
    **optimizers.SPECIAL,
}
"""By name, of operations that look at formats: (execution, operation, arguments, keyword arguments) -> results."""
