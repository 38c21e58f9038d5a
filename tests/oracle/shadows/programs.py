"""Programs of a few operations each, by class: every model of an operation is in one, forward and backward."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Input = Callable[[torch.Generator], Tensor]
Program = tuple[Callable[..., Any], tuple[Input, ...]]
"""A function and its inputs: normal numbers, integers where it indexes."""


def normal(*shape: int, scale: float = 1.0) -> Input:
    return lambda generator: torch.randn(shape, dtype=torch.float64, generator=generator) * scale


def positive(*shape: int) -> Input:
    return lambda generator: torch.randn(shape, dtype=torch.float64, generator=generator).abs() + 0.1


def below(number: int, *shape: int) -> Input:
    return lambda generator: torch.randint(0, number, shape, generator=generator)


SQUARE, OTHER = normal(20, 30), normal(20, 30)


def _elementwise() -> Iterator[tuple[str, Program]]:
    yield "arithmetic", (lambda x, y: (x + y) * x - y / (x.abs() + 1), (SQUARE, OTHER))
    yield "python scalars", (lambda x: (x * 0.3 + 1.7).rsqrt() * 0.1, (positive(20, 30),))
    yield "broadcast", (lambda x, y: x * y, (SQUARE, normal(30)))
    yield "choices", (lambda x, y: torch.where(x > 0, x.clamp(max=1), torch.maximum(x, y)) * 1.1, (SQUARE, OTHER))
    yield "powers", (lambda x: x**1.7 + x**3 + x**2, (positive(20, 30),))
    yield "complex rotation", (_rotated, (SQUARE, normal(20, 15)))
    for names in ("exp exp2 expm1 log log1p log2", "sin cos tanh sigmoid erf atan", "sqrt rsqrt reciprocal square"):
        functions = [getattr(torch, name) for name in names.split()]
        yield names, (_each(functions), (positive(len(functions), 10, 20),))
    for names in ("gelu silu mish hardswish glu", "softplus elu selu leaky_relu logsigmoid"):
        functions = [getattr(functional, name) for name in names.split()]
        yield names, (_each(functions), (normal(len(functions), 10, 20),))
    yield "gelu in its tanh form", (lambda x: functional.gelu(x, approximate="tanh"), (SQUARE,))
    yield "saturated glu", (functional.glu, (normal(20, 30, scale=5),))


def _each(functions: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], list[Tensor]]:
    """Every function of its own row of an input, so that gradients lie apart."""
    return lambda x: [function(row) for function, row in zip(functions, x.unbind())]


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions as Llama's authors write them."""
    pairs = torch.view_as_complex(x.float().reshape(20, 15, 2))
    turns = torch.polar(torch.ones_like(angles, dtype=torch.float32), angles.float())
    return torch.view_as_real(pairs * turns).to(x.dtype)


def _sums() -> Iterator[tuple[str, Program]]:
    yield "sum of rows", (lambda x: x.sum(-1), (normal(64, 512),))
    yield "sum of columns", (lambda x: x.sum(0), (normal(512, 64),))
    yield "sum of rows of one sign", (lambda x: x.sum(-1), (positive(64, 512),))
    yield "sum of columns of one sign", (lambda x: x.sum(0), (positive(512, 64),))
    yield "mean", (lambda x: x.mean(-1), (normal(64, 300),))
    yield "mean over outer dimensions", (lambda x: x.mean((0, 2), keepdim=True), (normal(8, 64, 30),))
    yield "var and std", (lambda x: (x.var(-1), x.std(-1)), (normal(64, 512),))
    yield "norm", (lambda x: (x.norm(dim=-1), torch.linalg.vector_norm(x, dim=0)), (normal(64, 512),))
    yield "logsumexp", (lambda x: x.logsumexp(-1), (normal(64, 128),))
    yield "cumsum", (lambda x: x.cumsum(-1), (normal(8, 128),))
    yield "cumprod", (lambda x: x.cumprod(-1), (normal(8, 16),))
    yield "prod", (lambda x: x.prod(-1), (positive(64, 6),))
    for terms in (8, 64, 1024):
        yield f"product of {terms} terms", (torch.matmul, (normal(24, terms), normal(terms, 16)))
        yield f"product of {terms} terms of one sign", (torch.matmul, (positive(24, terms), positive(terms, 16)))
    yield "linear", (functional.linear, (normal(24, 64), normal(64, 64), normal(64)))
    yield (
        "addmm",
        (
            lambda c, x, y: torch.addmm(c, x, y, beta=0.3, alpha=1.7),
            (normal(24, 16), normal(24, 64), normal(64, 16)),
        ),
    )
    yield "bmm", (torch.bmm, (normal(3, 12, 64), normal(3, 64, 8)))
    yield "baddbmm", (torch.baddbmm, (normal(3, 12, 8), normal(3, 12, 64), normal(3, 64, 8)))
    yield "mv", (torch.mv, (normal(64, 64), normal(64)))
    yield "addmv", (torch.addmv, (normal(64), normal(64, 64), normal(64)))
    yield "einsum", (lambda x, y: torch.einsum("bhid,bhjd->bhij", x, y), (normal(2, 3, 8, 16), normal(2, 3, 8, 16)))
    yield "outer", (torch.outer, (normal(64), normal(64)))


def _into_places() -> Iterator[tuple[str, Program]]:
    rows, into = below(5, 40), normal(5, 16)
    yield "embedding", (lambda w, i: functional.embedding(i, w) * 1.1, (normal(10, 16), below(10, 128)))
    yield (
        "embedding, padded",
        (
            lambda w, i: functional.embedding(i, w, padding_idx=2) * 1.1,
            (normal(10, 16), below(10, 128)),
        ),
    )
    yield "index", (lambda x, i: x[i] * 1.1, (into, rows))
    yield "gather", (lambda x, i: x.gather(0, i) * 1.1, (into, below(5, 40, 16)))
    yield "index_add", (lambda x, i, y: x.index_add(0, i, y), (into, rows, normal(40, 16)))
    yield "index_add of many", (lambda x, i, y: x.index_add(0, i, y), (into, below(5, 999), normal(999, 16)))
    yield "scatter_add", (lambda x, i, y: x.scatter_add(0, i, y), (into, below(5, 40, 16), normal(40, 16)))
    yield "index_put", (lambda x, i, y: x.index_put((i,), y, accumulate=True), (into, rows, normal(40, 16)))
    yield "expand", (lambda x: x.expand(40, 5, 16) * 1.1, (into,))
    yield "repeat", (lambda x: (x.repeat(7, 3) * 1.1, x.repeat_interleave(7, 0)), (into,))
    yield "unfold", (lambda x: (functional.unfold(x, 3) * 1.1, x.unfold(2, 3, 1)), (normal(2, 3, 6, 6),))
    yield (
        "padding",
        (
            lambda x: [functional.pad(x, (1, 2), mode=mode) * 1.1 for mode in ("constant", "reflect", "replicate")],
            (normal(4, 6, 6),),
        ),
    )


def _softmaxes() -> Iterator[tuple[str, Program]]:
    for name, x in (("64", normal(16, 64)), ("512", normal(16, 512)), ("64, wide", normal(16, 64, scale=8))):
        yield f"softmax of {name}", (lambda x: x.softmax(-1), (x,))
        yield f"log_softmax of {name}", (lambda x: x.log_softmax(-1), (x,))
    yield "softmax in float32", (lambda x: x.softmax(-1, dtype=torch.float32).to(x.dtype), (normal(16, 64),))
    yield (
        "softmax behind a mask",
        (
            lambda x: (x + torch.full((64, 64), -torch.inf).triu(1)).softmax(-1).to(x.dtype),
            (normal(64, 64),),
        ),
    )


def _norms() -> Iterator[tuple[str, Program]]:
    for rows, columns in ((32, 64), (8, 512), (256, 64)):
        shapes = normal(rows, columns), normal(columns), normal(columns)
        yield (
            f"layer norm of {rows} × {columns}",
            (
                lambda x, w, b: functional.layer_norm(x, x.shape[-1:], w, b),
                shapes,
            ),
        )
        yield (
            f"rms norm of {rows} × {columns}",
            (
                lambda x, w: functional.rms_norm(x, x.shape[-1:], w, 1e-5),
                shapes[:2],
            ),
        )
    yield "layer norm of an offset", (lambda x: functional.layer_norm(x + 5, x.shape[-1:]), (normal(32, 64),))
    image, channels = normal(8, 64, 3, 3), normal(64)
    yield "group norm", (lambda x, w, b: functional.group_norm(x, 4, w, b), (image, channels, channels))
    yield (
        "batch norm",
        (
            lambda x, w, b: functional.batch_norm(x, None, None, w, b, True),
            (image, channels, channels),
        ),
    )
    yield (
        "batch norm with its statistics",
        (
            lambda x, m, v, w, b: functional.batch_norm(x, m.detach(), v.detach(), w, b),
            (image, channels, positive(64), channels, channels),
        ),
    )
    yield "normalize", (lambda x: functional.normalize(x, dim=-1), (normal(32, 30),))
    yield "cosine similarity", (functional.cosine_similarity, (normal(64, 30), normal(64, 30)))


def _losses() -> Iterator[tuple[str, Program]]:
    logits, targets = normal(640, 20), below(20, 640)
    yield "cross entropy", (lambda x, t: _batches(functional.cross_entropy, x, t), (logits, targets))
    yield (
        "cross entropy, smoothed",
        (
            lambda x, t: functional.cross_entropy(x, t, label_smoothing=0.1, ignore_index=3, reduction="none"),
            (normal(64, 50), below(50, 64)),
        ),
    )
    yield (
        "cross entropy, weighted",
        (
            lambda x, t, w: functional.cross_entropy(x, t, weight=w.detach(), reduction="sum"),
            (normal(64, 50), below(50, 64), positive(50)),
        ),
    )
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        loss = getattr(functional, name)
        yield name, (lambda x, y, loss=loss: loss(x, y, reduction="none"), (SQUARE, OTHER))
        yield f"mean of {name}", (lambda x, y, loss=loss: _batches(loss, x, y), (normal(640, 3), normal(640, 3)))
    yield (
        "binary cross entropy",
        (
            lambda x, y: functional.binary_cross_entropy_with_logits(x, y.detach().sigmoid(), reduction="none"),
            (SQUARE, OTHER),
        ),
    )
    yield (
        "divergence",
        (
            lambda x, y: functional.kl_div(x.log_softmax(-1), y.detach().softmax(-1), reduction="none"),
            (SQUARE, OTHER),
        ),
    )


def _batches(loss: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([loss(one, other) for one, other in zip(x.split(20), y.split(20))])


def _convolutions() -> Iterator[tuple[str, Program]]:
    image = normal(3, 8, 9, 9)
    yield (
        "conv1d",
        (
            lambda x, w, b: functional.conv1d(x, w, b, padding=1),
            (normal(3, 8, 20), normal(64, 8, 3), normal(64)),
        ),
    )
    yield (
        "conv2d",
        (
            lambda x, w, b: functional.conv2d(x, w, b, padding=1, stride=2),
            (image, normal(64, 8, 3, 3), normal(64)),
        ),
    )
    yield (
        "conv2d in groups",
        (
            lambda x, w, b: functional.conv2d(x, w, b, groups=4),
            (image, normal(64, 2, 3, 3), normal(64)),
        ),
    )
    yield (
        "conv2d, transposed",
        (
            lambda x, w, b: functional.conv_transpose2d(x, w, b, stride=2),
            (normal(3, 8, 5, 5), normal(8, 64, 3, 3), normal(64)),
        ),
    )
    yield (
        "pooling",
        (
            lambda x: [
                functional.max_pool2d(x, 2) * 1.1,
                functional.avg_pool2d(x, 3),
                functional.adaptive_avg_pool2d(x, (3, 3)),
                functional.adaptive_avg_pool2d(x, 1),
            ],
            (normal(3, 32, 9, 9),),
        ),
    )
    yield (
        "pooling of sequences",
        (
            lambda x: (
                functional.max_pool1d(x, 2) * 1.1,
                functional.avg_pool1d(x, 3),
                functional.adaptive_avg_pool1d(x, 3),
            ),
            (normal(3, 32, 9),),
        ),
    )
    yield (
        "interpolation",
        (
            lambda x: [functional.interpolate(x, scale_factor=2, mode=mode) * 1.1 for mode in ("nearest", "bilinear")],
            (normal(2, 3, 5, 5),),
        ),
    )


def _attention() -> Iterator[tuple[str, Program]]:
    attended, heads = functional.scaled_dot_product_attention, normal(2, 4, 16, 8)
    three = (heads, heads, heads)
    yield "attention", (attended, three)
    yield "causal attention", (lambda q, k, v: attended(q, k, v, is_causal=True), three)
    yield (
        "long attention",
        (
            lambda q, k, v: attended(q, k, v, is_causal=True, scale=0.3),
            (normal(1, 2, 200, 16),) * 3,
        ),
    )
    yield (
        "attention behind a mask",
        (
            lambda q, k, v: attended(q, k, v, attn_mask=torch.ones(16, 16, dtype=torch.bool).tril(2)),
            three,
        ),
    )
    yield (
        "attention behind infinities",
        (
            lambda q, k, v: attended(q, k, v, attn_mask=torch.full((16, 16), -torch.inf).triu(1).to(q.dtype)),
            three,
        ),
    )
    yield "attention with a bias", (lambda q, k, v, b: attended(q, k, v, b.detach()), (*three, normal(16, 16)))
    yield "attention with a bias that learns", (attended, (*three, normal(16, 16)))
    yield (
        "attention of groups",
        (
            lambda q, k, v: attended(q, k, v, is_causal=True, enable_gqa=True),
            (heads, normal(2, 2, 16, 8), normal(2, 2, 16, 8)),
        ),
    )


def _in_place() -> Iterator[tuple[str, Program]]:
    yield "casts", (lambda x: x.to(torch.bfloat16).to(torch.float32).half().double(), (SQUARE,))
    yield "in place and through views", (_written_through_views, (SQUARE,))
    yield "assignments", (_assigned, (SQUARE, OTHER))


def _written_through_views(x: Tensor) -> Tensor:
    y = x * 1.1
    y.add_(x).mul_(0.3)
    y[2:5] *= 3.3
    y.t()[1].neg_()
    y[:, 3] = x[:, 2]
    y.view(-1)[7:90].div_(1.3)
    return y


def _assigned(x: Tensor, y: Tensor) -> Any:
    z = torch.zeros_like(x)
    z[::2] = x[1::2] * y[::2]
    z[1::2] += y[1::2]
    z.copy_(z * 1.3)
    z.masked_fill_(y > 1, 0.25)
    z.addcmul_(x, y, value=0.3)
    return z.clamp_(-2, 2).chunk(3, 1)


PROGRAMS: dict[str, Program] = {
    name: program
    for group in (
        _elementwise,
        _sums,
        _into_places,
        _softmaxes,
        _norms,
        _losses,
        _convolutions,
        _attention,
        _in_place,
    )
    for name, program in group()
}


def inputs_of(name: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The inputs of a program, floats in that format."""
    generator = torch.Generator().manual_seed(3)
    made = [make(generator) for make in PROGRAMS[name][1]]
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in made)
