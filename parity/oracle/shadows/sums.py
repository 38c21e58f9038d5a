"""Sums of many terms: reductions, products of matrices, convolutions, and sums into places."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import Arithmetic
from parity.oracle.shadows.operations import PRODUCTS

aten = torch.ops.aten


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


MODELS = {
    **dict.fromkeys(PRODUCTS, _product),
    "sum": _sum,
    "nansum": _sum,
    "mean": _mean,
    "cumsum": _cumsum,
    **dict.fromkeys(
        ("norm", "linalg_vector_norm", "_foreach_norm", "var", "std", "var_mean", "std_mean", "native_norm"), _norm
    ),
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
