"""The training step of microGPT in NumPy, all positions of a document at once, with gradients derived on paper.

An example of an independent implementation: of the reference it knows nothing but the names of the tensors. Check it:

    parity check tests/examples/numpy_port.py:make

Shapes: n positions of one document, each a row; w of shape (rows, columns) is applied as x @ w.T. d_x is the gradient
of the loss with respect to x and has its shape. A backward function stands right below its forward function.
"""

from collections.abc import Sequence
from math import cos, pi
from typing import Any, NamedTuple

import numpy as np

from parity import Config, Hyper, State, Step

Array = np.ndarray
Tensors = dict[str, Array]


def linear(x: Array, w: Array) -> Array:
    return x @ w.T


def linear_backward(d_y: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """d_x and d_w. y_i = Σ_j w_ij x_j, so ∂y_i/∂x_j = w_ij and ∂y_i/∂w_ij = x_j, summed over the positions."""
    return d_y @ w, d_y.T @ x


def rmsnorm(x: Array) -> Array:
    return x * rms_scale(x)


def rms_scale(x: Array) -> Array:
    return ((x * x).mean(axis=-1, keepdims=True) + 1e-5) ** -0.5


def rmsnorm_backward(d_y: Array, x: Array) -> Array:
    """d_x. y_i = s x_i with s = (mean(x²) + 1e-5)^-½.

    ∂s/∂x_j = -s³ x_j / len(x), so ∂y_i/∂x_j = s ([i = j] - y_i y_j / len(x)) and d_x = s (d_y - y mean(d_y y)).
    """
    scale = rms_scale(x)
    y = x * scale
    return scale * (d_y - y * (d_y * y).mean(axis=-1, keepdims=True))


def softmax(x: Array) -> Array:
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def softmax_backward(d_p: Array, p: Array) -> Array:
    """d_x. p_i = exp(x_i) / Σ exp(x), so ∂p_i/∂x_j = p_i ([i = j] - p_j) and d_x = p (d_p - Σ p d_p)."""
    return p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))


def split_heads(x: Array, n_head: int) -> Array:
    """(n, n_embd) as (n_head, n, head_dim)."""
    return x.reshape(len(x), n_head, -1).swapaxes(0, 1)


def join_heads(x: Array) -> Array:
    """(n_head, n, head_dim) as (n, n_embd)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


class Attention(NamedTuple):
    """What backward, and the next token of a document that is being decoded, need to know of one attention block.

    x, norm, heads: (n, n_embd). q: (n_head, n, head_dim); k, v: the same for all positions so far. weights:
    (n_head, n, positions so far).
    """

    x: Array
    norm: Array
    q: Array
    k: Array
    v: Array
    weights: Array
    heads: Array


def attention(x: Array, w: Tensors, config: Config, past: Attention | None) -> tuple[Array, Attention]:
    """x + wo · heads, where position t attends to the positions up to t; past holds the keys and values before x."""
    norm = rmsnorm(x)
    q, k, v = (split_heads(linear(norm, w[name]), config.n_head) for name in ("attn_wq", "attn_wk", "attn_wv"))
    if past is not None:
        k, v = np.concatenate([past.k, k], axis=1), np.concatenate([past.v, v], axis=1)
    scores = q @ k.swapaxes(1, 2) / config.head_dim**0.5
    n, so_far = scores.shape[1:]
    scores[:, np.triu(np.ones((n, so_far), dtype=bool), k=1 + so_far - n)] = -np.inf  # the future
    weights = softmax(scores)
    heads = join_heads(weights @ v)
    return x + linear(heads, w["attn_wo"]), Attention(x, norm, q, k, v, weights, heads)


def attention_backward(d_y: Array, tape: Attention, w: Tensors, config: Config) -> tuple[Array, Tensors]:
    """d_x and the gradients of the four weights; a weight of the future is 0, and so is the gradient of its score."""
    grads = {}
    d_heads, grads["attn_wo"] = linear_backward(d_y, tape.heads, w["attn_wo"])
    d_heads = split_heads(d_heads, config.n_head)
    d_weights, d_v = d_heads @ tape.v.swapaxes(1, 2), tape.weights.swapaxes(1, 2) @ d_heads
    d_scores = softmax_backward(d_weights, tape.weights) / config.head_dim**0.5
    d_q, d_k = d_scores @ tape.k, d_scores.swapaxes(1, 2) @ tape.q
    d_norm = np.zeros_like(tape.norm)
    for name, d in (("attn_wq", d_q), ("attn_wk", d_k), ("attn_wv", d_v)):
        d_part, grads[name] = linear_backward(join_heads(d), tape.norm, w[name])
        d_norm += d_part
    return d_y + rmsnorm_backward(d_norm, tape.x), grads


class Mlp(NamedTuple):
    """What backward needs to know of one MLP block. x, norm: (n, n_embd); pre, post: (n, 4 n_embd)."""

    x: Array
    norm: Array
    pre: Array
    post: Array


def mlp(x: Array, w: Tensors, config: Config) -> tuple[Array, Mlp]:
    """x + fc2 · activation(fc1 · rmsnorm(x))."""
    norm = rmsnorm(x)
    pre = linear(norm, w["mlp_fc1"])
    relu = np.maximum(pre, 0)
    post = relu**2 if config.activation == "relu2" else relu
    return x + linear(post, w["mlp_fc2"]), Mlp(x, norm, pre, post)


def mlp_backward(d_y: Array, tape: Mlp, w: Tensors, config: Config) -> tuple[Array, Tensors]:
    """d_x and the gradients of both weights; relu'(x) = [x > 0], and (relu(x)²)' = 2 relu(x)."""
    grads = {}
    d_post, grads["mlp_fc2"] = linear_backward(d_y, tape.post, w["mlp_fc2"])
    slope = 2 * np.maximum(tape.pre, 0) if config.activation == "relu2" else tape.pre > 0
    d_norm, grads["mlp_fc1"] = linear_backward(d_post * slope, tape.norm, w["mlp_fc1"])
    return d_y + rmsnorm_backward(d_norm, tape.x), grads


class Tape(NamedTuple):
    """One forward pass. embedding, x: (n, n_embd), before the first norm and after the last layer."""

    tokens: Sequence[int]
    embedding: Array
    attentions: list[Attention]
    mlps: list[Mlp]
    x: Array


def of_layer(params: Tensors, layer: int) -> Tensors:
    """The tensors of one layer, without the layer in their names."""
    prefix = f"layer{layer}."
    return {name.removeprefix(prefix): tensor for name, tensor in params.items() if name.startswith(prefix)}


def forward(tokens: Sequence[int], params: Tensors, config: Config, past: Tape | None = None) -> tuple[Array, Tape]:
    """The logits, (n, vocab_size), of tokens that follow those of past; with what backward needs."""
    start = past.attentions[0].k.shape[1] if past else 0
    embedding = params["wte"][tokens] + params["wpe"][start : start + len(tokens)]
    x = rmsnorm(embedding)
    attentions, mlps = [], []
    for i in range(config.n_layer):
        w = of_layer(params, i)
        x, attention_tape = attention(x, w, config, past.attentions[i] if past else None)
        x, mlp_tape = mlp(x, w, config)
        attentions.append(attention_tape)
        mlps.append(mlp_tape)
    return linear(x, params["lm_head"]), Tape(tokens, embedding, attentions, mlps, x)


def backward(d_logits: Array, tape: Tape, params: Tensors, config: Config) -> Tensors:
    """The gradients of all tensors."""
    grads = {name: np.zeros_like(tensor) for name, tensor in params.items()}
    d_x, grads["lm_head"] = linear_backward(d_logits, tape.x, params["lm_head"])
    for i in reversed(range(config.n_layer)):
        w = of_layer(params, i)
        d_x, of_mlp = mlp_backward(d_x, tape.mlps[i], w, config)
        d_x, of_attention = attention_backward(d_x, tape.attentions[i], w, config)
        grads |= {f"layer{i}.{name}": grad for name, grad in (of_mlp | of_attention).items()}
    d_embedding = rmsnorm_backward(d_x, tape.embedding)
    np.add.at(grads["wte"], tape.tokens, d_embedding)  # += would count a repeated token once
    grads["wpe"][: len(tape.tokens)] = d_embedding
    return grads


class NumpyPort:
    """The subject: weights, moments and step number, and what is done with them."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str = "float64") -> None:
        if dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be float64 or float32, not {dtype!r}")
        self.config, self.hyper, self.dtype = config, hyper, dtype

    def load(self, state: State) -> None:
        """Take these weights, moments and step number."""
        self.params, self.m, self.v = (self._arrays(part) for part in (state.params, state.m, state.v))
        self.step = state.step

    def _arrays(self, matrices: dict[str, Any]) -> Tensors:
        return {name: np.array(matrix, dtype=self.dtype) for name, matrix in matrices.items()}

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on the mean of the documents' losses."""
        loss, all_logits = 0.0, []
        grads = {name: np.zeros_like(p) for name, p in self.params.items()}
        for tokens in batch:
            n = min(self.config.block_size, len(tokens) - 1)
            logits, tape = forward(tokens[:n], self.params, self.config)
            probs, target = softmax(logits), (np.arange(n), tokens[1 : n + 1])
            loss += -np.log(probs[target]).mean() / len(batch)
            d_logits = probs.copy()  # loss = -log p_target: d_p is -1 / p_target there, and so d_logits = p - [target]
            d_logits[target] -= 1
            for name, grad in backward(d_logits / (n * len(batch)), tape, self.params, self.config).items():
                grads[name] += grad
            all_logits.append(logits)
        self.adam(grads)
        return Step(loss, all_logits, grads, self.params, self.m, self.v)

    def adam(self, grads: Tensors) -> None:
        """One update; new arrays, so that what a Step holds stays as it was."""
        hyper, progress = self.hyper, self.step / self.hyper.num_steps
        decay = (1 + cos(pi * progress)) / 2 if hyper.lr_schedule == "cosine" else 1 - progress
        self.step += 1
        after: tuple[Tensors, Tensors, Tensors] = ({}, {}, {})
        for name, grad in grads.items():
            m = hyper.beta1 * self.m[name] + (1 - hyper.beta1) * grad
            v = hyper.beta2 * self.v[name] + (1 - hyper.beta2) * grad**2
            m_hat = m / (1 - hyper.beta1**self.step)
            v_hat = v / (1 - hyper.beta2**self.step)
            p = self.params[name] - hyper.learning_rate * decay * m_hat / (np.sqrt(v_hat) + hyper.eps_adam)
            after[0][name], after[1][name], after[2][name] = p, m, v
        self.params, self.m, self.v = after

    def decode(self, tokens: Sequence[int]) -> Array:
        """The logits, (n, vocab_size), of at most block_size tokens, one by one with cached keys and values."""
        rows, tape = [], None
        for token in tokens:
            logits, tape = self._next(token, tape)
            rows.append(logits)
        return np.array(rows)

    def sample(self, temperature: float, count: int, seed: int) -> list[list[int]]:
        """Documents without BOS, of at most block_size tokens; temperature 0 takes the likeliest token."""
        rng = np.random.default_rng(seed)
        return [self._document(temperature, rng) for _ in range(count)]

    def _document(self, temperature: float, rng: np.random.Generator) -> list[int]:
        bos = self.config.vocab_size - 1
        tokens, tape = [bos], None
        while len(tokens) <= self.config.block_size:
            logits, tape = self._next(tokens[-1], tape)
            if temperature == 0:
                token = int(logits.argmax())
            else:
                token = int(rng.choice(len(logits), p=softmax(logits.astype("float64") / temperature)))
            if token == bos:
                break
            tokens.append(token)
        return tokens[1:]

    def _next(self, token: int, past: Tape | None) -> tuple[Array, Tape]:
        """The logits after one more token, (vocab_size,), and the tape with it at the end."""
        logits, tape = forward([token], self.params, self.config, past)
        return logits[0], tape


def make(config: Config, hyper: Hyper, dtype: str = "float64") -> NumpyPort:
    """The factory that `parity check` is given the name of."""
    return NumpyPort(config, hyper, dtype)
