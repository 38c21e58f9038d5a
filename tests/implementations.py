"""Correct implementations of one training step that round differently: each evaluates in an order of its own.

They serve the calibration of the noise floor, in every number format, and read like what people write.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from reference.config import Config, Hyper, State, Step
from torch_twin import microgpt as twin

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

LOSS_SCALE = 2.0**10
"""Of float16, whose numbers end at 6e-8: gradients smaller than that would be lost on the way."""

Params = dict[str, Tensor]


def norm_pow(x: Tensor) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5) ** -0.5


def norm_rsqrt(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + 1e-5)


def attend_masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """All positions at once under a causal mask; q, k, v and the result: (n_head, n, head_dim)."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(mask, float("-inf")).softmax(-1) @ v


def attend_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def attend_normalised_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The sum of values divided by the sum of weights at the end, and powers of 2, as flash attention does.

    Like its kernels it computes in float32 at least, whatever comes in and goes out.
    """
    dtype = q.dtype
    if dtype in (torch.bfloat16, torch.float16):
        q, k, v = q.float(), k.float(), v.float()
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = scores.masked_fill(mask, float("-inf"))
    weights = ((scores - scores.detach().amax(-1, keepdim=True)) * math.log2(math.e)).exp2()
    return (weights @ v / weights.sum(-1, keepdim=True)).to(dtype)


class SavedOutputs(torch.autograd.Function):
    """Attention whose gradients are made from its outputs as they were rounded, not from its weights.

    Dao et al. 2022, FlashAttention, appendix B: what the gradients of the weights add up to, weighted, is the sum of
    the outputs times their gradients.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = (scores / q.shape[-1] ** 0.5).masked_fill(mask, float("-inf")).softmax(-1).to(q.dtype)
        outputs = weights @ v
        ctx.save_for_backward(q, k, v, weights, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights, outputs = ctx.saved_tensors
        (grad,) = grads
        sums = (grad * outputs).sum(-1, keepdim=True)
        scores = weights * (grad @ v.mT - sums) / q.shape[-1] ** 0.5
        return scores @ k, scores.mT @ q, weights.mT @ grad


def attend_saving_outputs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    outputs: Tensor = SavedOutputs.apply(q, k, v)
    return outputs


def project(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.T


def project_in_blocks(x: Tensor, w: Tensor) -> Tensor:
    """Sums taken in two interleaved halves, as a kernel with two accumulators would."""
    return x[..., 1::2] @ w[:, 1::2].T + x[..., ::2] @ w[:, ::2].T


def loss_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets)


def loss_log_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(-1, targets[:, None]).mean()


class Vectorised:
    """A subject made of interchangeable parts."""

    def __init__(
        self,
        config: Config,
        hyper: Hyper,
        dtype: str = "float64",
        *,
        storage: str | None = None,
        norm: Callable[[Tensor], Tensor] = norm_pow,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor] = attend_masked,
        linear: Callable[[Tensor, Tensor], Tensor] = project,
        loss: Callable[[Tensor, Tensor], Tensor] = loss_cross_entropy,
        fused_qkv: bool = False,
        torch_adam: bool = False,
        permuted: bool = False,
    ) -> None:
        self.config, self.hyper, self.dtype, self.storage = config, hyper, dtype, storage or dtype
        self.norm, self.attend, self.linear, self.loss = norm, attend, linear, loss
        self.fused_qkv, self.torch_adam = fused_qkv, torch_adam
        embd = list(range(config.n_embd))
        hidden = list(range(4 * config.n_embd))
        if permuted:  # the same function of the weights in another order, so every sum runs in another order
            rng = random.Random(0)
            rng.shuffle(embd)
            rng.shuffle(hidden)
        self.embd, self.hidden = torch.tensor(embd), torch.tensor(hidden)

    def _axes(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """The permutations of a tensor's rows and columns."""
        kind = name.rpartition(".")[2]
        rows = {"mlp_fc1": self.hidden, "mlp_fc2": self.embd, "attn_wo": self.embd}.get(kind)
        columns = {"mlp_fc2": self.hidden, "attn_wo": None}.get(kind, self.embd)
        return rows, columns

    def _in(self, tensors: dict[str, Any]) -> Params:
        result = {}
        for name, matrix in tensors.items():
            tensor = torch.tensor(matrix, dtype=DTYPES[self.storage])
            rows, columns = self._axes(name)
            tensor = tensor if rows is None else tensor[rows]
            result[name] = (tensor if columns is None else tensor[:, columns]).contiguous()
        return result

    def _out(self, tensors: Params) -> Params:
        result = {}
        for name, tensor in tensors.items():
            rows, columns = self._axes(name)
            tensor = tensor if rows is None else tensor[rows.argsort()]
            result[name] = tensor if columns is None else tensor[:, columns.argsort()]
        return result

    def load(self, state: State) -> None:
        self.params, self.m, self.v = self._in(state.params), self._in(state.m), self._in(state.v)
        self.step = state.step

    def forward(self, tokens: Sequence[int], params: Params) -> Tensor:
        """The logits, (n, vocab_size)."""
        config, n = self.config, len(tokens)
        x = self.norm(params["wte"][torch.tensor(tokens)] + params["wpe"][:n])
        for i in range(config.n_layer):
            h = self.norm(x)
            names = [f"layer{i}.attn_w{letter}" for letter in "qkv"]
            if self.fused_qkv:
                qkv = self.linear(h, torch.cat([params[name] for name in names])).chunk(3, dim=-1)
            else:
                qkv = tuple(self.linear(h, params[name]) for name in names)
            q, k, v = (part.view(n, config.n_head, config.head_dim).transpose(0, 1) for part in qkv)
            heads = self.attend(q, k, v).transpose(0, 1).reshape(n, config.n_embd)
            x = x + self.linear(heads, params[f"layer{i}.attn_wo"])
            h = self.linear(self.norm(x), params[f"layer{i}.mlp_fc1"]).relu()
            h = h * h if config.activation == "relu2" else h
            x = x + self.linear(h, params[f"layer{i}.mlp_fc2"])
        return self.linear(x, params["lm_head"])

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        params = {name: tensor.detach().requires_grad_() for name, tensor in self.params.items()}
        lengths = [min(self.config.block_size, len(tokens) - 1) for tokens in batch]
        mixed = self.storage != self.dtype
        with torch.autocast("cpu", DTYPES[self.dtype] if mixed else torch.bfloat16, enabled=mixed):
            logits = [self.forward(tokens[:n], params) for tokens, n in zip(batch, lengths)]
            targets = [torch.tensor(tokens[1 : n + 1]) for tokens, n in zip(batch, lengths)]
            loss = torch.stack([self.loss(rows, own) for rows, own in zip(logits, targets)]).mean()
        scale = LOSS_SCALE if self.dtype == "float16" else 1.0
        (loss * scale).backward()
        grads = {name: torch.zeros_like(p) if p.grad is None else p.grad / scale for name, p in params.items()}
        self._adam(grads)
        return Step(
            loss=loss.item(),
            logits=[rows.detach() for rows in logits],
            grads=self._out(grads),
            params=self._out(self.params),
            m=self._out(self.m),
            v=self._out(self.v),
        )

    def _adam(self, grads: Params) -> None:
        hyper = self.hyper
        rate = twin.learning_rate(self.step, hyper)
        self.step += 1
        first, second = 1 - hyper.beta1**self.step, 1 - hyper.beta2**self.step
        for name, grad in grads.items():
            if self.torch_adam:  # the order of operations of torch.optim.Adam
                self.m[name] = self.m[name].lerp(grad, 1 - hyper.beta1)
                self.v[name] = (self.v[name] * hyper.beta2).addcmul(grad, grad, value=1 - hyper.beta2)
                root = (self.v[name].sqrt() / second**0.5).add(hyper.eps_adam)
                self.params[name] = self.params[name].addcdiv(self.m[name], root, value=-rate / first)
            else:
                self.m[name] = hyper.beta1 * self.m[name] + (1 - hyper.beta1) * grad
                self.v[name] = hyper.beta2 * self.v[name] + (1 - hyper.beta2) * grad * grad
                root = (self.v[name] / second).sqrt() + hyper.eps_adam
                self.params[name] = self.params[name] - rate * (self.m[name] / first) / root


def _variant(**parts: Any) -> Callable[..., Vectorised]:
    def make(config: Config, hyper: Hyper, dtype: str = "float64", storage: str | None = None) -> Vectorised:
        return Vectorised(config, hyper, dtype, storage=storage, **parts)

    return make


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "line-for-line twin": twin.make,
    "all positions at once": _variant(),
    "fused attention, torch's Adam": _variant(attend=attend_fused, fused_qkv=True, norm=norm_rsqrt, torch_adam=True),
    "attention normalised last": _variant(attend=attend_normalised_last, loss=loss_log_softmax),
    "attention from saved outputs": _variant(attend=attend_saving_outputs),
    "sums in two blocks": _variant(linear=project_in_blocks, norm=norm_rsqrt),
    "permuted weights": _variant(permuted=True, loss=loss_log_softmax, torch_adam=True),
}
"""Seven orders of evaluation of one function."""
