"""Planted faults: the twin with one deliberate mistake each, made by replacing source text in memory."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch_twin.microgpt

SOURCE = Path(torch_twin.microgpt.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Fault:
    """A mistake, and where a check must place it.

    edits: pairs of a text that the twin's source holds exactly once, and what stands in its place. quantity, tensor,
    index and step: the first divergence in lock-step; index None where it depends on the numbers. site: the first
    named intermediate that differs, with its document and position, and (a gradient of it) if that is what differs;
    None where every one agrees.
    """

    name: str
    edits: tuple[tuple[str, str], ...]
    quantity: str
    tensor: str
    index: tuple[int, ...] | None = None
    step: int = 0
    site: str | None = None
    site_quantity: str = "site"


@contextmanager
def planted(*edits: tuple[str, str]) -> Iterator[Callable]:
    """The factory of the twin with the edits made."""
    source = SOURCE
    for old, new in edits:
        if SOURCE.count(old) != 1 or source.count(old) != 1:
            raise ValueError(f"{old!r} does not stand in the twin's source exactly once.")
        source = source.replace(old, new)
    name = "torch_twin_with_a_fault"
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))
    sys.modules[name] = module  # where dataclasses and autograd look a class's module up
    try:
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
        yield module.make
    finally:
        del sys.modules[name]


OVERWRITTEN_ROW = """class OverwrittenRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, token):
        ctx.w, ctx.token = w, token
        return w[token].clone()

    @staticmethod
    def backward(ctx, grad):
        if ctx.w.grad is None:
            ctx.w.grad = torch.zeros_like(ctx.w)
        ctx.w.grad[ctx.token] = grad
        return None, None


def linear("""

UNNORMALISED_HEAD = """torch.cat(
            [softmax(scores[:-1]), (scores[-1:] - scores[-1:].detach().amax(dim=-1, keepdim=True)).exp()]
        )"""

CURRENT_KEY_MASKED = """
        if position:
            scores = torch.cat([scores[:, :-1], torch.full_like(scores[:, -1:], -torch.inf)], dim=-1)
        scores = tap(f"{layer}.attn.scores", scores)"""

NAN_IN_A_GRADIENT = """grads["layer0.attn_wo"] = grads["layer0.attn_wo"].clone()
    grads["layer0.attn_wo"][0, 1] = torch.nan
    after = adam(state, grads, hyper)"""

# tests/judging/test_faults.py runs these on one document of four tokens, all of which are positions, with two layers.
FORWARD = (
    Fault(
        "the position embedding is off by one",
        (('params["wpe"][position]', 'params["wpe"][position - 1]'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="embedding at document 0, position 0",
    ),
    Fault(
        "rmsnorm adds 1e-6 instead of 1e-5",
        (("1e-5", "1e-6"),),
        "logits",
        "document 0",
        index=(0, 0),
        site="norm at document 0, position 0",
    ),
    Fault(
        "queries use the key weights and keys the query weights",
        (
            ('attn.q", linear(x, params[f"{layer}.attn_wq"])', 'attn.q", linear(x, params[f"{layer}.attn_wk"])'),
            ('attn.k", linear(x, params[f"{layer}.attn_wk"])', 'attn.k", linear(x, params[f"{layer}.attn_wq"])'),
        ),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.q at document 0, position 0",
    ),
    Fault(
        "keys use the value weights",
        (('attn.k", linear(x, params[f"{layer}.attn_wk"])', 'attn.k", linear(x, params[f"{layer}.attn_wv"])'),),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.k at document 0, position 0",
    ),
    Fault(
        "attention scores are not scaled",
        ((" / config.head_dim**0.5", ""),),
        "logits",
        "document 0",
        index=(1, 0),  # the only score at position 0 is a weight of 1 at any scale
        site="layer0.attn.scores at document 0, position 0",
    ),
    Fault(
        "the mask is off by one and hides the current position",
        (('\n        scores = tap(f"{layer}.attn.scores", scores)', CURRENT_KEY_MASKED),),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.scores at document 0, position 1",
    ),
    Fault(
        "one head's softmax is not normalised",
        (("softmax(scores)", UNNORMALISED_HEAD),),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.weights at document 0, position 1",
    ),
    Fault(
        "the value cache is stale",
        (
            (
                "values[i].append(split_heads(v, config))",
                "values[i].append(values[i][0] if values[i] else split_heads(v, config))",
            ),
        ),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.heads at document 0, position 1",
    ),
    Fault(
        "attention has no residual connection",
        (('attn_wo"])\n        x = x + residual', 'attn_wo"])'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="layer0.attn.residual at document 0, position 0",
    ),
    Fault(
        "the activation is GELU",
        (("x = x.relu()", "x = torch.nn.functional.gelu(x)"),),
        "logits",
        "document 0",
        index=(0, 0),
        site="layer0.mlp.post at document 0, position 0",
    ),
    Fault(
        "the MLP has no residual connection",
        (('mlp_fc2"])\n        x = x + residual', 'mlp_fc2"])'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="layer0.mlp.residual at document 0, position 0",
    ),
    Fault(
        "a final norm is added",
        (('linear(x, params["lm_head"])', 'linear(rmsnorm(x), params["lm_head"])'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="logits at document 0, position 0",
    ),
    Fault(
        "lm_head is tied to wte",
        (('linear(x, params["lm_head"])', 'linear(x, params["wte"])'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="logits at document 0, position 0",
    ),
    Fault(
        "the loss is a sum over positions",
        (("(1 / n) * sum(losses)", "sum(losses)"),),
        "loss",
        "loss",
        index=(),
        site="loss at document 0, position 3",
        site_quantity="site grad",
    ),
    Fault(
        "scores are scaled by the root of n_embd",
        (("/ config.head_dim**0.5", "/ config.n_embd**0.5"),),
        "logits",
        "document 0",
        index=(1, 0),
        site="layer0.attn.scores at document 0, position 0",
    ),
    Fault(
        "the first norm is missing",
        (('tap("norm", rmsnorm(x))', 'tap("norm", x)'),),
        "logits",
        "document 0",
        index=(0, 0),
        site="norm at document 0, position 0",
    ),
    Fault(
        "the ReLU leaks a hundredth",
        (("x = x.relu()", "x = torch.nn.functional.leaky_relu(x)"),),
        "logits",
        "document 0",
        index=(0, 0),
        site="layer0.mlp.post at document 0, position 0",
    ),
    Fault(
        "rmsnorm subtracts the mean",
        (("mean_square = (x * x).sum() / len(x)", "mean_square = ((x - x.mean()) ** 2).sum() / len(x)"),),
        "logits",
        "document 0",
        index=(0, 0),
        site="norm at document 0, position 0",
    ),
    Fault(
        "labels are smoothed",
        (
            (
                "-probs[tokens[position + 1]].log()",
                "-0.9 * probs[tokens[position + 1]].log() - 0.1 * probs.log().mean()",
            ),
        ),
        "loss",
        "loss",
        site="loss at document 0, position 0",
    ),
)

BACKWARD = (
    Fault(
        "gradients of a repeated token are overwritten",
        (("def linear(", OVERWRITTEN_ROW), ('params["wte"][token]', 'OverwrittenRow.apply(params["wte"], token)')),
        "grad",
        "wte",
        index=(1, 0),  # token 1 is the one that is repeated
    ),
    Fault(
        "rmsnorm's scale is taken for a constant",
        (("return x * scale", "return x * scale.detach()"),),
        "grad",
        "layer1.attn_wo",
        site="layer1.attn.residual at document 0, position 3",
        site_quantity="site grad",
    ),
    Fault(
        "no gradient flows through the keys",
        (("keys[i].append(split_heads(k, config))", "keys[i].append(split_heads(k.detach(), config))"),),
        "grad",
        "layer1.attn_wk",
        site="layer1.attn.k at document 0, position 3",
        site_quantity="site grad",
    ),
    Fault(
        "one gradient is NaN",
        (("after = adam(state, grads, hyper)", NAN_IN_A_GRADIENT),),
        "grad",
        "layer0.attn_wo",
        index=(0, 1),
    ),
)

ADAM = (
    Fault(
        "beta1 is 0.9",
        (("hyper.beta1 * state.m[name] + (1 - hyper.beta1)", "0.9 * state.m[name] + 0.1"),),
        "m",
        "lm_head",
    ),
    Fault(
        "beta2 is 0.999",
        (("hyper.beta2 * state.v[name] + (1 - hyper.beta2)", "0.999 * state.v[name] + 0.001"),),
        "v",
        "lm_head",
    ),
    Fault(
        "m averages squared gradients", (("(1 - hyper.beta1) * grad", "(1 - hyper.beta1) * grad**2"),), "m", "lm_head"
    ),
    Fault(
        "epsilon is inside the root",
        (("(v_hat**0.5 + hyper.eps_adam)", "(v_hat + hyper.eps_adam) ** 0.5"),),
        "param",
        "lm_head",
    ),
    Fault(
        "the moments have no bias correction",
        (("1 - hyper.beta1 ** (state.step + 1)", "1"), ("1 - hyper.beta2 ** (state.step + 1)", "1")),
        "param",
        "lm_head",
    ),
    Fault(
        "bias correction counts from zero after the first step",
        (
            ("1 - hyper.beta1 ** (state.step + 1)", "1 - hyper.beta1 ** max(1, state.step)"),
            ("1 - hyper.beta2 ** (state.step + 1)", "1 - hyper.beta2 ** max(1, state.step)"),
        ),
        "param",
        "lm_head",
        step=1,
    ),
    Fault(
        "the weights are updated before the moments",
        (("after.m[name] / m_correction", "state.m[name] / m_correction"),),
        "param",
        "lm_head",
    ),
    Fault("the learning rate does not decay", (("else 1 - progress", "else 1"),), "param", "lm_head", step=1),
    Fault(
        "the learning rate is one step ahead",
        (("progress = step / hyper.num_steps", "progress = (step + 1) / hyper.num_steps"),),
        "param",
        "lm_head",
    ),
    Fault(
        "gradients are clipped at a norm of 0.1",
        (
            (
                "* state.m[name] + (1 - hyper.beta1) * grad",
                "* state.m[name] + (1 - hyper.beta1) * grad.renorm(2, 0, 0.1)",
            ),
        ),
        "m",
        "lm_head",
    ),
    Fault(
        "weights decay by 1e-4 of the rate",
        (("- update", "- update - 1e-4 * rate * state.params[name]"),),
        "param",
        "lm_head",
    ),
    Fault("v_hat is not rooted", (("v_hat**0.5", "v_hat"),), "param", "lm_head"),
)

FAULTS = FORWARD + BACKWARD + ADAM

NEUTRAL = {
    "unmodified": (),
    "queries are scaled instead of scores": (
        (
            "(split_heads(q, config) * k_heads).sum(dim=-1) / config.head_dim**0.5",
            "(split_heads(q / config.head_dim**0.5, config) * k_heads).sum(dim=-1)",
        ),
    ),
    "sums run backwards": (("return w @ x", "return w.flip(1) @ x.flip(0)"),),
    "the loss by logsumexp": (
        ("-probs[tokens[position + 1]].log()", "logits[-1].logsumexp(0) - logits[-1][tokens[position + 1]]"),
    ),
}
"""Edits that change rounding at most."""
