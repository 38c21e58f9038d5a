"""The line-for-line twin of `reference.microgpt` in PyTorch: the same functions with the same lines, on tensors.

A vector is a tensor, a matrix a two-dimensional one, and autograd takes the place of Value. Nothing is batched or
fused: one token at a time, with the same caches, and Adam written out. `make` gives the subject for the harness.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from reference.config import Config, Hyper, State, Step


def gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def no_tap(site: str, value: Tensor) -> Tensor:
    return value


def init_params(config: Config, rng: random.Random) -> dict[str, Tensor]:
    """Weights by name in float64, drawn row by row."""
    params = {}
    for name, (rows, columns) in config.shapes().items():
        zero = config.zero_init_projections and name.endswith(("attn_wo", "mlp_fc2"))
        std = 0.0 if zero else config.init_std
        matrix = [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
        params[name] = torch.tensor(matrix, dtype=torch.float64)
    return params


def init_state(params: dict[str, Tensor]) -> State:
    """The state before the first update: both moments are zero."""
    m = {name: torch.zeros_like(matrix) for name, matrix in params.items()}
    v = {name: torch.zeros_like(matrix) for name, matrix in params.items()}
    return State(params, m, v, step=0)


def linear(x: Tensor, w: Tensor) -> Tensor:
    return w @ x


def softmax(logits: Tensor) -> Tensor:
    shift = logits.detach().amax(dim=-1, keepdim=True)
    exps = (logits - shift).exp()
    total = exps.sum(dim=-1, keepdim=True)
    return exps / total


def rmsnorm(x: Tensor) -> Tensor:
    mean_square = (x * x).sum() / len(x)
    scale = (mean_square + 1e-5) ** -0.5
    return x * scale


def activate(x: Tensor, config: Config) -> Tensor:
    x = x.relu()
    return x**2 if config.activation == "relu2" else x


def split_heads(x: Tensor, config: Config) -> Tensor:
    return x.view(config.n_head, config.head_dim)


def gpt(token: int, position: int, keys: list, values: list, params: dict, config: Config, tap: Any = no_tap) -> Tensor:
    """The logits of the next token, (vocab_size,). The caches keys and values hold one list per layer and grow."""
    x = params["wte"][token] + params["wpe"][position]
    x = tap("embedding", x)
    x = tap("norm", rmsnorm(x))
    for i in range(config.n_layer):
        layer = f"layer{i}"
        residual = x
        x = tap(f"{layer}.attn.norm", rmsnorm(x))
        q = tap(f"{layer}.attn.q", linear(x, params[f"{layer}.attn_wq"]))
        k = tap(f"{layer}.attn.k", linear(x, params[f"{layer}.attn_wk"]))
        v = tap(f"{layer}.attn.v", linear(x, params[f"{layer}.attn_wv"]))
        keys[i].append(split_heads(k, config))
        values[i].append(split_heads(v, config))
        scores = torch.stack(
            [(split_heads(q, config) * k_heads).sum(dim=-1) / config.head_dim**0.5 for k_heads in keys[i]], dim=-1
        )
        scores = tap(f"{layer}.attn.scores", scores)
        weights = tap(f"{layer}.attn.weights", softmax(scores))
        x = sum(w[:, None] * v_heads for w, v_heads in zip(weights.unbind(dim=-1), values[i])).flatten()
        x = tap(f"{layer}.attn.heads", x)
        x = linear(x, params[f"{layer}.attn_wo"])
        x = x + residual
        x = tap(f"{layer}.attn.residual", x)
        residual = x
        x = tap(f"{layer}.mlp.norm", rmsnorm(x))
        x = tap(f"{layer}.mlp.pre", linear(x, params[f"{layer}.mlp_fc1"]))
        x = tap(f"{layer}.mlp.post", activate(x, config))
        x = linear(x, params[f"{layer}.mlp_fc2"])
        x = x + residual
        x = tap(f"{layer}.mlp.residual", x)
    return tap("logits", linear(x, params["lm_head"]))


def document_loss(tokens: Sequence[int], params: dict, config: Config, tap: Any = no_tap) -> tuple[Tensor, list]:
    """The mean of -log p(next token) over n = min(block_size, len(tokens) - 1) positions, and their logits."""
    n = min(config.block_size, len(tokens) - 1)
    keys = [[] for _ in range(config.n_layer)]
    values = [[] for _ in range(config.n_layer)]
    logits, losses = [], []
    for position in range(n):
        logits.append(gpt(tokens[position], position, keys, values, params, config, tap))
        probs = tap("probs", softmax(logits[-1]))
        losses.append(tap("loss", -probs[tokens[position + 1]].log()))
    return (1 / n) * sum(losses), logits


def batch_loss(batch: Sequence[Sequence[int]], params: dict, config: Config, tap: Any = no_tap) -> tuple[Tensor, list]:
    """The mean of the documents' losses, and each document's logits."""
    results = [document_loss(tokens, params, config, tap) for tokens in batch]
    loss = (1 / len(batch)) * sum(loss for loss, _ in results)
    return loss, [logits for _, logits in results]


def learning_rate(step: int, hyper: Hyper) -> float:
    progress = step / hyper.num_steps
    decay = 0.5 * (1 + math.cos(math.pi * progress)) if hyper.lr_schedule == "cosine" else 1 - progress
    return hyper.learning_rate * decay


def adam(state: State, grads: dict[str, Tensor], hyper: Hyper) -> State:
    """The state after one update (Kingma and Ba 2015, algorithm 1, with a learning rate that decays)."""
    rate = learning_rate(state.step, hyper)
    m_correction = 1 - hyper.beta1 ** (state.step + 1)
    v_correction = 1 - hyper.beta2 ** (state.step + 1)
    after = State({}, {}, {}, state.step + 1)
    for name, grad in grads.items():
        after.m[name] = hyper.beta1 * state.m[name] + (1 - hyper.beta1) * grad
        after.v[name] = hyper.beta2 * state.v[name] + (1 - hyper.beta2) * grad**2
        m_hat = after.m[name] / m_correction
        v_hat = after.v[name] / v_correction
        update = rate * m_hat / (v_hat**0.5 + hyper.eps_adam)
        after.params[name] = state.params[name] - update
    return after


def train_step(state: State, batch: Sequence, config: Config, hyper: Hyper, tap: Any = no_tap) -> tuple[State, Step]:
    """Forward, backward and Adam on a batch of documents: the state after it, and all that it computed."""
    params = {name: matrix.detach().requires_grad_() for name, matrix in state.params.items()}
    loss, logits = batch_loss(batch, params, config, tap)
    loss.backward()
    grads = {name: gradient(matrix) for name, matrix in params.items()}
    after = adam(state, grads, hyper)
    logits = [torch.stack(rows).detach() for rows in logits]
    return after, Step(loss.item(), logits, grads, after.params, after.m, after.v)


def train(docs: Sequence, config: Config, hyper: Hyper, rng: random.Random) -> Iterator[tuple[State, Step]]:
    """Train from fresh weights for hyper.num_steps steps of one document each; a document is its list of tokens."""
    state = init_state(init_params(config, rng))
    for step in range(hyper.num_steps):
        state, result = train_step(state, [docs[step % len(docs)]], config, hyper)
        yield state, result


@torch.no_grad()
def sample(params: dict, config: Config, rng: random.Random, temperature: float = 0.5) -> list[int]:
    """Tokens drawn one by one from BOS to BOS, at most block_size; temperature 0 takes the likeliest."""
    keys = [[] for _ in range(config.n_layer)]
    values = [[] for _ in range(config.n_layer)]
    bos = config.vocab_size - 1
    tokens = [bos]
    for position in range(config.block_size):
        logits = gpt(tokens[-1], position, keys, values, params, config)
        if temperature == 0:
            token = max(range(config.vocab_size), key=lambda token: logits[token])
        else:
            probs = softmax(logits / temperature)
            token = rng.choices(range(config.vocab_size), weights=probs.tolist())[0]
        if token == bos:
            break
        tokens.append(token)
    return tokens[1:]


DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Twin:
    """The twin as a subject. dtype: one of DTYPES; device: as torch names it.

    Set expose_sites to have every named intermediate and its gradient in `Step.sites` and `Step.site_grads`.
    """

    def __init__(self, config: Config, hyper: Hyper, dtype: str = "float64", device: str = "cpu") -> None:
        if dtype not in DTYPES:
            raise ValueError(f"The twin computes in {', '.join(DTYPES)}, not in {dtype!r}.")
        self.config, self.hyper, self.dtype, self.device = config, hyper, dtype, device
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        options = {"dtype": DTYPES[self.dtype], "device": self.device}
        params, m, v = (
            {name: torch.tensor(matrix, **options) for name, matrix in matrices.items()}
            for matrices in (state.params, state.m, state.v)
        )
        self.state = State(params, m, v, state.step)

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents."""
        sites: dict[str, list[Tensor]] = {}

        def collect(site: str, value: Tensor) -> Tensor:
            value.retain_grad()
            sites.setdefault(site, []).append(value)
            return value

        self.state, step = train_step(
            self.state, batch, self.config, self.hyper, collect if self.expose_sites else no_tap
        )
        if self.expose_sites:
            step.sites = {site: [value.detach() for value in tapped] for site, tapped in sites.items()}
            step.site_grads = {site: [gradient(value) for value in tapped] for site, tapped in sites.items()}
        return step


make = Twin
