"""Hypothesis strategies for configs, hyper-parameters, documents, weights, states and whole cases.

    from hypothesis import given
    from parity.testing.strategies import cases
    from parity.testing.assertions import assert_parity

    @given(case=cases())
    def test_my_port(case):
        assert_parity("my_port.py:make", case)

Importing this module loads a Hypothesis profile without a deadline, unless you have loaded one of your own.

Most draws are small, so that a check takes milliseconds, and most lie at an edge: of sizes (one head, heads of size 1),
of documents (empty, one token repeated, longer than the block), of weights (see `EDGES`) or of the schedule (first
step, last step, learning rate 0). The ranges are those in which the reference has an answer, nearly always: where a
probability is 0 it cannot take the logarithm.

What fails shrinks to one layer, one head, one dimension, one empty document and one step, since sizes are drawn first,
and then to plain weights: one significant digit each, so that the stored case can be read. Needs hypothesis, which
comes with microgpt-parity[test].
"""

import math
import random
from collections.abc import Callable
from functools import lru_cache

from parity.case import Case
from parity.testing.profiles import load_patience
from reference.config import Config, Hyper, State
from reference.microgpt import init_state

try:
    from hypothesis import event
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError("parity.strategies needs hypothesis: install microgpt-parity[test].") from error

load_patience()  # the first case compiles an oracle, and records a graph

_Matrix = list[list[float]]
Matrices = dict[str, _Matrix]

SMALL = {"n_layer": (1, 2), "n_embd": (1, 4), "block_size": (1, 4), "vocab_size": (2, 4)}
"""The sizes of small models, from and to: two of everything at least, since one hides what goes wrong between two."""

# Strategies are made once: to make and validate one takes longer than to draw from it.
SEEDS = st.integers(0, 2**32 - 1)
_DIGITS = st.sampled_from(("one", "all"))
_LEARNING_RATES = st.just(0.01) | st.floats(0, 0.1) | st.just(0.0)
_BETA1 = st.just(0.85) | st.floats(0, 0.95)
_BETA2 = st.just(0.99) | st.floats(0.5, 0.999)
_EPS_ADAM = st.sampled_from((1e-8, 1e-6, 1e-3, 1e-10))
_SCHEDULES = st.sampled_from(("linear", "cosine"))
_MOMENT_SCALES = st.just(0.0) | st.floats(1e-3, 1.0)


@st.composite
def configs(
    draw: DrawFn,
    *,
    max_layer: int = 3,
    max_embd: int = 16,
    max_block: int = 8,
    max_vocab: int = 8,
    activations: tuple[str, ...] = ("relu", "relu2"),
) -> Config:
    """A model shape: every size from 1, vocab_size from 2, up to the maximum given; any n_head that divides n_embd.

    Half of the shapes are small (see `SMALL`); in the others one size is not, since the work goes with their product.
    """
    most = {"n_layer": max_layer, "n_embd": max_embd, "block_size": max_block, "vocab_size": max_vocab}
    large = draw(_one_or_none(tuple(most)), label="large size")
    size = {name: draw(_sizes(name, limit, name == large), label=name) for name, limit in most.items()}
    return Config(
        n_layer=size["n_layer"],
        n_embd=size["n_embd"],
        n_head=draw(_heads(size["n_embd"]), label="n_head"),
        block_size=size["block_size"],
        vocab_size=size["vocab_size"],
        activation=draw(_one_of(activations), label="activation"),
    )


@lru_cache(maxsize=256)
def _sizes(name: str, most: int, large: bool) -> SearchStrategy[int]:
    least, small = SMALL[name]
    return st.integers(least, most if large else min(most, small))


@lru_cache(maxsize=256)
def _heads(n_embd: int) -> SearchStrategy[int]:
    return st.sampled_from([1, n_embd, *(n for n in range(2, n_embd) if n_embd % n == 0)])


@lru_cache(maxsize=256)
def _one_of(values: tuple[str, ...]) -> SearchStrategy[str]:
    return st.sampled_from(values)


@lru_cache(maxsize=256)
def _one_or_none(values: tuple[str, ...]) -> SearchStrategy[str | None]:
    return st.none() | st.sampled_from(values) if values else st.none()


@st.composite
def hypers(draw: DrawFn, *, min_num_steps: int = 1, max_num_steps: int = 1000) -> Hyper:
    """Adam's numbers and the schedule, the defaults of the reference the simplest; num_steps is often the least.

    beta2 is at least 0.5: with a shorter memory, v forgets a gradient while m still remembers it, and the first step
    without it, divided by eps_adam, throws the weights out of every range.
    """
    return Hyper(
        learning_rate=draw(_LEARNING_RATES, label="learning_rate"),
        beta1=draw(_BETA1, label="beta1"),
        beta2=draw(_BETA2, label="beta2"),
        eps_adam=draw(_EPS_ADAM, label="eps_adam"),
        num_steps=draw(_schedules(min_num_steps, max(min_num_steps, max_num_steps)), label="num_steps"),
        lr_schedule=draw(_SCHEDULES, label="lr_schedule"),
    )


@lru_cache(maxsize=256)
def _schedules(least: int, most: int) -> SearchStrategy[int]:
    return st.just(least) | st.integers(least, most)


def documents(config: Config) -> SearchStrategy[list[int]]:
    """A document's tokens, BOS at both ends: empty, of one character, of one repeated, or longer than the block."""
    return _documents(config.vocab_size, config.block_size)


@lru_cache(maxsize=256)
def _documents(vocab_size: int, block_size: int) -> SearchStrategy[list[int]]:
    bos, most = vocab_size - 1, block_size + 2
    if not bos:
        return st.just([bos, bos])
    characters = st.integers(0, bos - 1)
    repeated = st.builds(lambda character, count: [character] * count, characters, st.integers(2, most))
    inner = st.lists(characters, max_size=most) | repeated | st.lists(characters, min_size=block_size, max_size=most)
    return inner.map(lambda tokens: [bos, *tokens, bos])


@st.composite
def weights(draw: DrawFn, config: Config, *, max_scale: float = 0.5, edges: tuple[str, ...] | None = None) -> Matrices:
    """The params of a State: gaussian with a drawn scale and seed, half of the time with one of the edges.

    max_scale: of the standard deviation, where n_embd is at most 4; beyond, less. edges: some of `EDGES` (None: all
    of them). Plain weights, of one significant digit, are the simplest.
    """
    one_digit = draw(_DIGITS, label="digits of the weights") == "one"
    # Of sums of many terms, the squares of squared ReLUs grow beyond what float32 can take the exponential of.
    most = max_scale * min(1.0, 2 / math.sqrt(config.n_embd))
    scale = draw(_scales(min(config.init_std, most), most), label="scale of the weights")
    params = _gaussian(config, draw(SEEDS, label="seed of the weights"), scale, one_digit)
    edge = draw(_one_or_none(tuple(EDGES) if edges is None else edges), label="edge of the weights")
    if edge is not None:
        EDGES[edge](draw, params)
    event(f"weights: {edge or 'gaussian'}")
    return params


@lru_cache(maxsize=256)
def _scales(usual: float, most: float) -> SearchStrategy[float]:
    return st.just(usual) | st.floats(min(1e-3, most), most)


@st.composite
def states(
    draw: DrawFn,
    config: Config,
    *,
    max_step: int = 100,
    max_scale: float = 0.5,
    edges: tuple[str, ...] | None = None,
) -> State:
    """A state before the first update, or one in mid-training with a step number and moments, which may be zero."""
    state = init_state(draw(weights(config, max_scale=max_scale, edges=edges)))
    state.step = draw(st.integers(0, max_step), label="step")
    scale = draw(_MOMENT_SCALES, label="scale of the moments") if state.step else 0.0
    if scale:
        state.m = _gaussian(config, draw(SEEDS, label="seed of m"), scale, one_digit=True)
        spread = _gaussian(config, draw(SEEDS, label="seed of v"), scale, one_digit=True)
        # No mean of squares is below the square of the mean; a smaller v would make an update of any size.
        state.v = {name: _sums_of_squares(state.m[name], spread[name]) for name in spread}
    return state


@st.composite
def cases(
    draw: DrawFn,
    *,
    config: SearchStrategy[Config] | None = None,
    max_steps: int = 3,
    max_batch: int = 3,
    max_scale: float = 0.5,
    edges: tuple[str, ...] | None = None,
) -> Case:
    """A whole run of one to max_steps steps with one to max_batch documents each; config: None for configs()."""
    model = draw(configs() if config is None else config, label="config")
    steps = draw(_counts(max_steps), label="steps")
    batch_size = draw(_counts(max_batch), label="batch_size")
    docs = draw(st.lists(documents(model), min_size=1, max_size=steps * batch_size), label="documents")
    state = draw(states(model, max_scale=max_scale, edges=edges))
    hyper = draw(hypers(min_num_steps=state.step + steps), label="hyper")
    return Case(model, hyper, state, docs, batch_size, steps)


@lru_cache(maxsize=256)
def _counts(most: int) -> SearchStrategy[int]:
    return st.integers(1, min(2, most)) | st.integers(1, most)


def _gaussian(config: Config, seed: int, scale: float, one_digit: bool) -> Matrices:
    # Drawn float by float, 4,000 weights would exceed what Hypothesis allows an example, and take seconds to shrink.
    rng = random.Random(seed)
    tensors = {}
    for name, (rows, columns) in config.shapes().items():
        tensors[name] = [[rng.gauss(0, scale) for _ in range(columns)] for _ in range(rows)]
        if one_digit:
            # wpe has the digit twice: were it the opposite of wte, embeddings would be 0 but for rounding, and rounding
            # would decide the gates of all ReLUs that follow.
            factor, form = (1.1, ".1e") if name == "wpe" else (1.0, ".0e")
            tensors[name] = [[float(f"{factor * float(f'{x:.0e}'):{form}}") for x in row] for row in tensors[name]]
    return tensors


def _sums_of_squares(left: _Matrix, right: _Matrix) -> _Matrix:
    # Two digits of a little more than the sum, which rounding cannot bring below it.
    return [[float(f"{1.1 * (a * a + b * b):.1e}") for a, b in zip(*rows)] for rows in zip(left, right)]


def _scale(params: Matrices, names: tuple[str, ...], factor: float) -> None:
    for name, matrix in params.items():
        if name.endswith(names):
            params[name] = [[factor * x for x in row] for row in matrix]


def _tensor(draw: DrawFn, params: Matrices) -> str:
    return draw(_one_of(tuple(params)), label="tensor")


def _zero(draw: DrawFn, params: Matrices) -> None:
    _scale(params, (_tensor(draw, params),), draw(st.sampled_from((0.0, -0.0)), label="zero"))


def _equal_rows(draw: DrawFn, params: Matrices) -> None:
    name = _tensor(draw, params)
    params[name] = [list(params[name][0]) for _ in params[name]]


def _one_value(draw: DrawFn, params: Matrices) -> None:
    name = _tensor(draw, params)
    params[name] = [[params[name][0][0] for _ in row] for row in params[name]]


def _subnormal(draw: DrawFn, params: Matrices) -> None:
    # In float32 and bfloat16, or in float64.
    factor = draw(st.sampled_from((2.0**-140, 2.0**-1060)), label="factor")
    _scale(params, (_tensor(draw, params),), factor)


def _huge(draw: DrawFn, params: Matrices) -> None:
    _scale(params, ("wte", "wpe"), 10.0 ** draw(st.integers(2, 15), label="power of ten"))


def _saturated_attention(draw: DrawFn, params: Matrices) -> None:
    # Scores of about this size: the rounding of larger ones in float32 moves the weights between two positions.
    _saturate(params, ("attn_wq", "attn_wk"), math.sqrt(draw(st.floats(10, 100), label="size of the scores")))


def _saturated_output(draw: DrawFn, params: Matrices) -> None:
    # Logits of about this size: where they are 100 apart, float32 has no number for the probability any more. So what
    # layers add to the embedding, which has size 1, must stay small.
    _saturate(params, ("lm_head",), draw(st.floats(10, 25), label="size of the logits"))
    _scale(params, ("attn_wo", "mlp_fc2"), 0.1)


def _saturate(params: Matrices, names: tuple[str, ...], most: float) -> None:
    for name, matrix in params.items():
        if name.endswith(names):
            largest = max(sum(map(abs, row)) for row in matrix)
            if largest:
                params[name] = [[float(f"{most / largest * x:.1e}") for x in row] for row in matrix]


def _dead_relus(draw: DrawFn, params: Matrices) -> None:
    # What reaches the MLP is positive, so that a row of negative weights is dead at every position.
    alive = draw(st.integers(0, 1), label="rows that live")
    for name, matrix in params.items():
        if name.endswith(("wte", "wpe", "attn_wv", "attn_wo")):
            params[name] = [[abs(x) for x in row] for row in matrix]
        elif name.endswith("mlp_fc1"):
            params[name] = [row if i < alive else [-abs(x) for x in row] for i, row in enumerate(matrix)]


EDGES: dict[str, Callable[[DrawFn, Matrices], None]] = {
    "zeros": _zero,
    "equal rows": _equal_rows,
    "one value": _one_value,
    "subnormal": _subnormal,
    "huge": _huge,
    "saturated attention": _saturated_attention,
    "saturated output": _saturated_output,
    "dead ReLUs": _dead_relus,
}
"""Edges of weights, and what makes gaussian ones such; the first four are of one tensor.

Saturated attention looks at one position alone, a saturated output has probabilities of 1 and next to 0. Huge are the
embeddings: the norm takes their size out again.
"""
