"""Fused attention: kernels that keep no weights, and make them anew where they need their gradients.

Dao et al. (2022), FlashAttention, algorithms 1 and 4: scores and sums in float32; in shorter formats the weights, and
the gradients of the scores, are rounded before they are multiplied; the term D is made of the rounded result.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parity.oracle.shadows.activations import exponential
from parity.oracle.shadows.noise import Arithmetic
from parity.oracle.shadows.shadow import Shadow, inner_of

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution


def _scores(a: Arithmetic, q: Tensor, k: Tensor, causal: bool, bias: Tensor | None, scale: float | None) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = a.moved(a.matmul(q, k.transpose(-1, -2)) * scale)
    if bias is not None:
        scores = a.moved(scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores


def _shared(x: Tensor, heads: int) -> Tensor:
    """Keys or values, each for as many heads of queries as share it: (…, heads, n, head_dim)."""
    return x if x.shape[-3] == heads else x.repeat_interleave(heads // x.shape[-3], -3)


def _together(a: Arithmetic, x: Tensor, heads: int) -> Tensor:
    """Their gradient: the sum over the heads that share one."""
    return x if x.shape[-3] == heads else a.sum(x.reshape(*x.shape[:-3], heads, -1, *x.shape[-2:]), [x.dim() - 2])


def forward(
    execution: "Execution", q: Tensor, k: Tensor, v: Tensor, causal: bool, bias: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Result and logarithm of the sum of exponentials, as shadows: (…, n, head_dim) and (…, n)."""
    a, b = execution.accumulating(q.dtype), execution.rounding(q.dtype)
    inner = [_shared(inner_of(x), q.shape[-3]) for x in (q, k, v)]
    scores = _scores(a, inner[0], inner[1], causal, None if bias is None else inner_of(bias), scale)
    largest = scores.amax(-1, keepdim=True)
    weights = exponential(a, scores - largest.clamp_min(-1e300))
    total = a.sum(weights, [-1], True)
    short = weights if b.u == a.u else b.rounded(weights)
    out = b.rounded(a.moved(a.matmul(short, inner[2]) / total))
    logsumexp = a.moved(largest + a.moved(total.log()))
    return Shadow(out, q.dtype), Shadow(logsumexp.squeeze(-1), torch.promote_types(q.dtype, torch.float32))


def backward(
    execution: "Execution",
    grad: Tensor,
    saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    causal: bool,
    bias: Tensor | None,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and the bias, as shadows. saved: q, k, v, result, logarithm of the sum."""
    dtype = saved[0].dtype
    a, b = execution.accumulating(dtype), execution.rounding(dtype)
    q, k, v, out, logsumexp = (inner_of(x) for x in saved)
    of_out, heads = inner_of(grad), k.shape[-3]
    k, v = _shared(k, q.shape[-3]), _shared(v, q.shape[-3])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = _scores(a, q, k, causal, None if bias is None else inner_of(bias), scale)
    weights = exponential(a, scores - logsumexp.unsqueeze(-1))
    short = weights if b.u == a.u else b.rounded(weights)
    of_v = a.matmul(short.transpose(-1, -2), of_out)
    of_weights = a.matmul(of_out, v.transpose(-1, -2))
    along = a.sum(a.moved(of_out * out), [-1], True)
    of_scores = a.moved(weights * a.moved(of_weights - along))
    short = of_scores if b.u == a.u else b.rounded(of_scores)
    of_q = a.moved(a.matmul(short, k) * scale)
    of_k = a.moved(a.matmul(short.transpose(-1, -2), q) * scale)
    q_grad, k_grad, v_grad = (
        Shadow(b.rounded(x), dtype) for x in (of_q, _together(a, of_k, heads), _together(a, of_v, heads))
    )
    return q_grad, k_grad, v_grad, Shadow(of_scores, dtype)


def _flash_cpu(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    q, k, v, dropout, causal = (*args, *(0.0, False)[len(args) - 3 :])[:5]
    _refuse(dropout)
    return forward(execution, q, k, v, causal, kwargs.get("attn_mask"), kwargs.get("scale"))


def _flash_cpu_backward(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    grad, q, k, v, out, logsumexp, _, causal = args[:8]
    saved = (q, k, v, out, logsumexp)
    return backward(execution, grad, saved, causal, kwargs.get("attn_mask"), kwargs.get("scale"))[:3]


def _of_keywords(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    """Kernels of CUDA: whatever else they give is there in the shape that they give it, and unread."""
    named = _named(func, args, kwargs)
    _refuse(named.get("dropout_p", 0.0))
    bias, causal, scale = named.get("attn_bias"), named.get("is_causal", False), named.get("scale")
    q, k, v = (named[name] for name in ("query", "key", "value"))
    out, logsumexp = forward(execution, q, k, v, causal, bias, scale)
    seed = torch.zeros(2, dtype=torch.int64)
    if "efficient" in func.overloadpacket.__name__:
        return out, logsumexp, seed[0], seed[1]
    return out, logsumexp, None, None, q.shape[-2], k.shape[-2], seed[0], seed[1], torch.zeros(0)


def _of_keywords_backward(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    named = _named(func, args, kwargs)
    saved = tuple(named[name] for name in ("query", "key", "value", "out", "logsumexp"))
    grad = named["grad_out" if "grad_out" in named else "grad_out_"]
    assert len(saved) == 5
    found = backward(execution, grad, saved, named.get("is_causal", False), named.get("attn_bias"), named.get("scale"))
    wanted = named.get("grad_input_mask")
    if wanted is None:
        return found[:3]
    return tuple(x if asked else None for x, asked in zip(found, wanted))


def _named(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    given = {argument.name: value for argument, value in zip(func._schema.arguments, args)}
    return {**given, **kwargs}


def _refuse(dropout: float) -> None:
    if dropout:
        raise NotImplementedError(
            "dropout within fused attention draws numbers that cannot be drawn again; set it to 0"
        )


SPECIAL: dict[str, Any] = {
    "_scaled_dot_product_flash_attention_for_cpu": _flash_cpu,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _flash_cpu_backward,
    "_scaled_dot_product_flash_attention": _of_keywords,
    "_scaled_dot_product_flash_attention_backward": _of_keywords_backward,
    "_scaled_dot_product_efficient_attention": _of_keywords,
    "_scaled_dot_product_efficient_attention_backward": _of_keywords_backward,
    "_scaled_dot_product_cudnn_attention": _of_keywords,
    "_scaled_dot_product_cudnn_attention_backward": _of_keywords_backward,
}
