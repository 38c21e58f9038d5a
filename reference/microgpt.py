"""The complete algorithm: a GPT, its gradients, Adam, training and sampling, in pure Python.

This file defines *expected*. It follows Andrej Karpathy's microGPT operation for operation, so that on the same
data it computes the same bits. A vector is a list of scalars, a matrix a list of rows, and a scalar is `Value`
or any other type with its operators. `tap(site, value)` sees every named intermediate and returns it.
"""

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

from reference.config import Config, Hyper, State, Step


class Tokenizer:
    """One token for each character of the documents, in code-point order, and BOS after them."""

    def __init__(self, docs: Sequence[str]) -> None:
        self.chars = sorted(set("".join(docs)))
        self.bos = len(self.chars)
        self.vocab_size = self.bos + 1

    def encode(self, doc: str) -> list[int]:
        """The tokens of a document, with BOS at both ends."""
        return [self.bos, *(self.chars.index(char) for char in doc), self.bos]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, without BOS."""
        return "".join(self.chars[token] for token in tokens if token != self.bos)


def function(name: str, x):
    """The number's own method where it has one, and math's function for Python's numbers, which have none."""
    return getattr(x, name)() if hasattr(x, name) else getattr(math, name)(x)


class Value:
    """A scalar that remembers how it was computed, so that gradients can flow back through it.

    children are the one or two values it was computed from (none for a leaf), local_grads its derivative with
    respect to each, and grad the derivative of the value that `backward` was called on (None if not reached).
    """

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = None
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other):
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other):
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def log(self):
        return Value(function("log", self.data), (self,), (1 / self.data,))

    def exp(self):
        exp = function("exp", self.data)
        return Value(exp, (self,), (exp,))

    def relu(self):
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),))

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * other**-1

    def __rtruediv__(self, other):
        return self**-1 * other

    __radd__ = __add__
    __rmul__ = __mul__

    def backward(self):
        """Set grad throughout the graph below, once: d self / d node, summed over the paths in a fixed order.

        The order is that of a depth-first walk, left child first, on a stack of its own: a recursive one would
        limit the size of the model.
        """
        self.grad = 0.0
        order, path, node, children = [], [], self, iter(self.children)
        while node is not None:
            for child in children:
                if child.grad is None:
                    child.grad = 0.0
                    if child.children:
                        path.append((node, children))
                        node, children = child, iter(child.children)
                        break
            else:  # everything that node was computed from is in order
                order.append(node)
                node, children = path.pop() if path else (None, None)
        self.grad = 1.0
        for node in reversed(order):
            if len(node.children) == 2:
                left, right = node.children
                left.grad += node.local_grads[0] * node.grad
                right.grad += node.local_grads[1] * node.grad
            elif node.children:
                node.children[0].grad += node.local_grads[0] * node.grad


def without_gc(step):
    """Pause the cyclic garbage collector: it would search graphs without cycles for two thirds of the time."""

    @wraps(step)
    def paused(*args, **kwargs):
        enabled = gc.isenabled()
        gc.disable()
        try:
            return step(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    return paused


def elementwise(operation: Callable[..., Any], *matrices):
    return [[operation(*scalars) for scalars in zip(*rows)] for rows in zip(*matrices)]


def gradient(leaf) -> float:
    return 0.0 if leaf.grad is None else leaf.grad


def no_tap(site: str, value):
    return value


def init_params(config: Config, rng: random.Random):
    """Weights by name, drawn row by row."""
    params = {}
    for name, (rows, columns) in config.shapes().items():
        zero = config.zero_init_projections and name.endswith(("attn_wo", "mlp_fc2"))
        std = 0.0 if zero else config.init_std
        params[name] = [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
    return params


def init_state(params) -> State:
    """The state before the first update: both moments are zero."""
    m = {name: elementwise(lambda p: 0.0, matrix) for name, matrix in params.items()}
    v = {name: elementwise(lambda p: 0.0, matrix) for name, matrix in params.items()}
    return State(params, m, v, step=0)


def linear(x, w):
    return [sum(a * b for a, b in zip(row, x)) for row in w]


def softmax(logits):
    shift = max(logit.data for logit in logits)
    exps = [(logit - shift).exp() for logit in logits]
    total = sum(exps)
    return [exp / total for exp in exps]


def rmsnorm(x):
    mean_square = sum(a * a for a in x) / len(x)
    scale = (mean_square + 1e-5) ** -0.5
    return [a * scale for a in x]


def activate(x, config: Config):
    x = [a.relu() for a in x]
    return [a**2 for a in x] if config.activation == "relu2" else x


def split_heads(x, config: Config):
    return [x[start : start + config.head_dim] for start in range(0, config.n_embd, config.head_dim)]


def gpt(token: int, position: int, keys, values, params, config: Config, tap=no_tap):
    """The logits of the next token, (vocab_size,). The caches keys and values hold one list per layer and grow."""
    x = [a + b for a, b in zip(params["wte"][token], params["wpe"][position])]
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
        scores = [
            [sum(a * b for a, b in zip(q_head, k_heads[h])) / config.head_dim**0.5 for k_heads in keys[i]]
            for h, q_head in enumerate(split_heads(q, config))
        ]
        scores = tap(f"{layer}.attn.scores", scores)
        weights = tap(f"{layer}.attn.weights", [softmax(row) for row in scores])
        x = [
            sum(w * v_heads[h][j] for w, v_heads in zip(row, values[i]))
            for h, row in enumerate(weights)
            for j in range(config.head_dim)
        ]
        x = tap(f"{layer}.attn.heads", x)
        x = linear(x, params[f"{layer}.attn_wo"])
        x = [a + b for a, b in zip(x, residual)]
        x = tap(f"{layer}.attn.residual", x)
        residual = x
        x = tap(f"{layer}.mlp.norm", rmsnorm(x))
        x = tap(f"{layer}.mlp.pre", linear(x, params[f"{layer}.mlp_fc1"]))
        x = tap(f"{layer}.mlp.post", activate(x, config))
        x = linear(x, params[f"{layer}.mlp_fc2"])
        x = [a + b for a, b in zip(x, residual)]
        x = tap(f"{layer}.mlp.residual", x)
    return tap("logits", linear(x, params["lm_head"]))


def document_loss(tokens: Sequence[int], params, config: Config, tap=no_tap):
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


def batch_loss(batch: Sequence[Sequence[int]], params, config: Config, tap=no_tap):
    """The mean of the documents' losses, and each document's logits."""
    results = [document_loss(tokens, params, config, tap) for tokens in batch]
    loss = (1 / len(batch)) * sum(loss for loss, _ in results)
    return loss, [logits for _, logits in results]


def learning_rate(step: int, hyper: Hyper) -> float:
    progress = step / hyper.num_steps
    decay = 0.5 * (1 + math.cos(math.pi * progress)) if hyper.lr_schedule == "cosine" else 1 - progress
    return hyper.learning_rate * decay


def adam(state: State, grads, hyper: Hyper) -> State:
    """The state after one update (Kingma and Ba 2015, algorithm 1, with a learning rate that decays)."""
    rate = learning_rate(state.step, hyper)
    m_correction = 1 - hyper.beta1 ** (state.step + 1)
    v_correction = 1 - hyper.beta2 ** (state.step + 1)
    after = State({}, {}, {}, state.step + 1)
    for name, grad in grads.items():
        after.m[name] = elementwise(lambda m, g: hyper.beta1 * m + (1 - hyper.beta1) * g, state.m[name], grad)
        after.v[name] = elementwise(lambda v, g: hyper.beta2 * v + (1 - hyper.beta2) * g**2, state.v[name], grad)
        m_hat = elementwise(lambda m: m / m_correction, after.m[name])
        v_hat = elementwise(lambda v: v / v_correction, after.v[name])
        update = elementwise(lambda m, v: rate * m / (v**0.5 + hyper.eps_adam), m_hat, v_hat)
        after.params[name] = elementwise(lambda p, u: p - u, state.params[name], update)
    return after


@without_gc
def train_step(state: State, batch, config: Config, hyper: Hyper, tap=no_tap, scalar=Value) -> tuple[State, Step]:
    """Forward, backward and Adam on a batch of documents: the state after it, and all that it computed."""
    params = {name: elementwise(scalar, matrix) for name, matrix in state.params.items()}
    loss, logits = batch_loss(batch, params, config, tap)
    loss.backward()
    grads = {name: elementwise(gradient, matrix) for name, matrix in params.items()}
    after = adam(state, grads, hyper)
    logits = [elementwise(lambda logit: logit.data, rows) for rows in logits]
    return after, Step(loss.data, logits, grads, after.params, after.m, after.v)


def train(docs, config: Config, hyper: Hyper, rng: random.Random) -> Iterator[tuple[State, Step]]:
    """Train from fresh weights for hyper.num_steps steps of one document each; a document is its list of tokens."""
    state = init_state(init_params(config, rng))
    for step in range(hyper.num_steps):
        state, result = train_step(state, [docs[step % len(docs)]], config, hyper)
        yield state, result


@without_gc
def sample(params, config: Config, rng: random.Random, temperature: float = 0.5) -> list[int]:
    """Tokens drawn one by one from BOS to BOS, at most block_size; temperature 0 takes the likeliest."""
    params = {name: elementwise(Value, matrix) for name, matrix in params.items()}
    keys = [[] for _ in range(config.n_layer)]
    values = [[] for _ in range(config.n_layer)]
    bos = config.vocab_size - 1
    tokens = [bos]
    for position in range(config.block_size):
        logits = gpt(tokens[-1], position, keys, values, params, config)
        if temperature == 0:
            token = max(range(config.vocab_size), key=lambda token: logits[token].data)
        else:
            probs = softmax([logit / temperature for logit in logits])
            token = rng.choices(range(config.vocab_size), weights=[p.data for p in probs])[0]
        if token == bos:
            break
        tokens.append(token)
    return tokens[1:]
