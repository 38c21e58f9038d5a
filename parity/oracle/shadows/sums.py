"""Sums of many terms: reductions, products of matrices, convolutions, and sums into places."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from parity.oracle.shadows.noise import PRODUCT_RUN, SINGLE, Arithmetic
from parity.oracle.shadows.operations import PRODUCTS

aten = torch.ops.aten


def _product(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    added, first, name = PRODUCTS[func.overloadpacket.__name__]
    left, right = args[first : first + 2]
    out = a.product(getattr(aten, name).default, left, right, left.shape[-1])
    if added is None:
        return out
    # Seldom scaled, so that the scalars' own rounding is left out.
    out = out * kwargs.get("alpha", 1)
    beta = kwargs.get("beta", 1)
    return args[added] * beta + out if beta else out  # without it, what is added is not read, and may be anything


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
    out = x.cumsum(dim)
    if x.device.type == "cpu":  # which accumulates in float64
        return out
    return a.summed(out, (x * x).cumsum(dim), x.shape[dim] if x.dim() else 1, 1)


def _prod(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """A product of elements, rounded to the format after each of them."""
    out = func(*args, **kwargs)
    return a.short.moved(out, (args[0].numel() / max(1, out.numel())) ** 0.5)


def _norm(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Norms, some of whose kernels add squares one by one: how far that leads away is found by trying."""
    out = func(*args, **kwargs)
    if a.noise is None:
        return out
    single = func(*_in_single(args), **kwargs) if a.u == SINGLE else out
    if isinstance(out, (list, tuple)):
        return [_about(a, x, y) for x, y in zip(out, single)]
    return _about(a, out, single)


def _in_single(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return [_in_single(y) for y in x]
    return x.float() if isinstance(x, Tensor) else x


def _about(a: Arithmetic, x: Tensor, single: Tensor) -> Tensor:
    return a.moved_by(x, x.abs() * (1.5 * a.u) + (x - single).abs() * 1.5)


def _variance(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Variances and the like: sums of squares, whose terms have one sign."""
    out = func(*args, **kwargs)
    if isinstance(out, (list, tuple)):  # with the mean
        return a.moved(out[0], 2), a.mean(args[0], _dims(args, kwargs), *_keepdim(args, kwargs))
    return a.moved(out, 2)


def _convolution(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    x, weight, bias, *others = args
    transposed = others[3]
    terms = prod(weight.shape[2:]) * (weight.shape[0] if transposed else weight.shape[1])
    out = a.product(lambda left, right: func(left, right, None, *others), x, weight, terms)
    if transposed and _by_image(a, x):
        out = a.short.moved_by(out, func(x.square(), weight.square(), None, *others).sqrt() * (a.short.u / 2))
    return out if bias is None else out + bias.reshape((1, -1) + (1,) * (out.dim() - 2))


def _convolution_backward(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    grad, x, weight, biases, *others, wanted = args
    outs = func(grad, x, weight, biases, *others, wanted)
    if a.noise is None:
        return outs
    squares = func(grad.square(), x.square(), weight.square(), biases, *others, wanted)
    spatial = grad.numel() // max(1, grad.shape[1])
    outputs = weight.shape[1] if others[3] else weight.shape[0] // others[-1]
    terms, runs = (prod(weight.shape[2:]) * outputs, spatial, spatial), (PRODUCT_RUN, PRODUCT_RUN // 4, PRODUCT_RUN)
    moved = [None if x is None else a.summed(x, q, n, run) for x, q, n, run in zip(outs, squares, terms, runs)]
    if _by_image(a, x):
        if moved[0] is not None and not others[3]:
            moved[0] = a.short.moved_by(moved[0], squares[0].sqrt() * (a.short.u / 5))
        if moved[1] is not None:
            moved[1] = a.short.summed(moved[1], squares[1] / 8, x.shape[0])
    return tuple(moved)


def _by_image(a: Arithmetic, x: Tensor) -> bool:
    """Whether partial sums are rounded to the format: without better ones, CPUs have a product for each image.

    Whether there is a better one in bfloat16 depends on the processor, and on flags that are others on shadows.
    """
    return a.noise is not None and a.short.u > SINGLE and x.device.type == "cpu"


def _pooled(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Means over windows."""
    out = func(*args, **kwargs)
    if a.noise is None:
        return out
    x, sizes = args[:2]
    adaptive = "adaptive" in func.overloadpacket.__name__
    number = x.numel() // max(1, out.numel()) if adaptive else prod(sizes)
    return a.summed(out, func(x.square(), *args[1:], **kwargs) / max(1, number), number)


def _spread(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Gradients of means over windows and of interpolation: sums of a few shares."""
    out = func(*args, **kwargs)
    return a.summed(out, func(*_each(args, torch.square), **kwargs), 4) if a.noise is not None else out


def _accumulating(a: Arithmetic, func: Any, args: Any, kwargs: Any) -> Any:
    """Sums into places: gradients of embeddings, indexing, pooling, padding and repetition."""
    out = func(*args, **kwargs)
    if a.noise is None:
        return out
    squares, terms = (func(*_each(args, made), **kwargs) for made in (torch.square, torch.ones_like))
    in_format = func.overloadpacket.__name__ in _IN_FORMAT and out.device.type == "cpu"
    return (a.short if in_format else a).gathered(out, squares, terms)


def _each(args: Any, made: Callable[[Tensor], Tensor]) -> list[Any]:
    return [made(x) if isinstance(x, Tensor) and x.dtype == torch.float64 else x for x in args]


_IN_FORMAT = frozenset(("embedding_dense_backward", "index_put", "_index_put_impl", "_unsafe_index_put", "col2im"))
"""Sums whose kernels for CPUs round to the format each time that they add."""


MODELS = {
    **dict.fromkeys(PRODUCTS, _product),
    "sum": _sum,
    "nansum": _sum,
    "mean": _mean,
    "cumsum": _cumsum,
    "prod": _prod,
    **dict.fromkeys(("norm", "linalg_vector_norm", "_foreach_norm"), _norm),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    **dict.fromkeys(("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), _pooled),
    **dict.fromkeys(
        (
            *("avg_pool2d_backward", "avg_pool3d_backward", "upsample_bilinear2d_backward"),
            *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
        ),
        _spread,
    ),
    **dict.fromkeys(
        (
            "embedding_dense_backward",
            "index_add",
            "scatter_add",
            "index_put",
            "_index_put_impl",
            "max_pool2d_with_indices_backward",
            "upsample_nearest1d_backward",
            "upsample_nearest2d_backward",
            "replication_pad1d_backward",
            "replication_pad2d_backward",
            "reflection_pad1d_backward",
            "_unsafe_index_put",
            "unfold_backward",
            "col2im",
            "reflection_pad2d_backward",
        ),
        _accumulating,
    ),
}
