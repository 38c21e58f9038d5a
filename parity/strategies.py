"""Hypothesis strategies for configs, hyper-parameters, documents, weights, and whole cases.

    from hypothesis import given
    from parity.strategies import cases
    from parity.testing import assert_parity

    @given(case=cases())
    def test_my_port(case):
        assert_parity("my_port.py:make", case)

Importing this module loads a Hypothesis profile without a deadline, unless you have loaded one of your own.

Everything shrinks to one layer, one-dimensional embeddings, one head, an empty document, and fresh weights at the
default scale. The ranges are those in which the reference has an answer: weights a hundred times larger drive a
probability to 0, whose logarithm it cannot take. Needs hypothesis, which comes with microgpt-parity[test].
"""

import random
from collections.abc import Callable

from parity.case import Case
from parity.suite.profiles import load_patience
from reference.config import Config, Hyper, State
from reference.microgpt import init_state

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError("parity.strategies needs hypothesis: install microgpt-parity[test].") from error

load_patience()  # the first case compiles an oracle, and records a graph

Matrices = dict[str, list[list[float]]]

MAX_SEED = 2**32 - 1


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
    """A model shape: every size from 1, vocab_size from 2, up to the maximum given; any n_head that divides n_embd."""
    n_embd = draw(st.integers(1, max_embd), label="n_embd")
    return Config(
        n_layer=draw(st.integers(1, max_layer), label="n_layer"),
        n_embd=n_embd,
        n_head=draw(st.sampled_from([n for n in range(1, n_embd + 1) if n_embd % n == 0]), label="n_head"),
        block_size=draw(st.integers(1, max_block), label="block_size"),
        vocab_size=draw(st.integers(2, max_vocab), label="vocab_size"),
        activation=draw(st.sampled_from(activations), label="activation"),
    )


@st.composite
def hypers(draw: DrawFn, *, min_num_steps: int = 1, max_num_steps: int = 1000) -> Hyper:
    """Adam's numbers and the schedule, the defaults of the reference the simplest.

    beta2 is at least 0.5: with a shorter memory, v forgets a gradient while m still remembers it, and the first step
    without it, divided by eps_adam, throws the weights out of every range.
    """
    return Hyper(
        learning_rate=draw(st.just(0.01) | st.floats(0, 0.1), label="learning_rate"),
        beta1=draw(st.just(0.85) | st.floats(0, 0.95), label="beta1"),
        beta2=draw(st.just(0.99) | st.floats(0.5, 0.999), label="beta2"),
        eps_adam=draw(st.sampled_from((1e-8, 1e-6, 1e-3, 1e-10)), label="eps_adam"),
        num_steps=draw(st.integers(min_num_steps, max(min_num_steps, max_num_steps)), label="num_steps"),
        lr_schedule=draw(st.sampled_from(("linear", "cosine")), label="lr_schedule"),
    )


def documents(config: Config) -> SearchStrategy[list[int]]:
    """A document's tokens, BOS at both ends: empty, of one character, with repetitions, or longer than the block."""
    bos = config.vocab_size - 1
    characters = st.integers(0, bos - 1) if bos else st.nothing()
    return st.lists(characters, max_size=config.block_size + 2).map(lambda inner: [bos, *inner, bos])


@st.composite
def weights(draw: DrawFn, config: Config, *, max_scale: float = 0.5) -> Matrices:
    """The params of a State: gaussian with a drawn scale and seed; at times a tensor is zero, or its rows are equal."""
    scale = draw(st.just(config.init_std) | st.floats(1e-3, max_scale), label="scale of the weights")
    params = _gaussian(draw, config, "seed of the weights", lambda rng: rng.gauss(0, scale))
    edge = draw(st.sampled_from(("none", "none", "zero", "equal rows")), label="edge")
    if edge != "none":
        name = draw(st.sampled_from(list(params)), label=f"tensor with the edge {edge!r}")
        row = [0.0] * len(params[name][0]) if edge == "zero" else params[name][0]
        params[name] = [list(row) for _ in params[name]]
    return params


@st.composite
def states(draw: DrawFn, config: Config, *, max_step: int = 100, max_scale: float = 0.5) -> State:
    """A state before the first update, or one in mid-training with a step number and moments other than zero."""
    state = init_state(draw(weights(config, max_scale=max_scale)))
    state.step = draw(st.integers(0, max_step), label="step")
    if state.step:
        scale = draw(st.floats(1e-3, 1.0), label="scale of the moments")
        state.m = _gaussian(draw, config, "seed of m", lambda rng: rng.gauss(0, scale))
        spread = _gaussian(draw, config, "seed of v", lambda rng: rng.gauss(0, scale))
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
) -> Case:
    """A whole run of one to max_steps steps with one to max_batch documents each; config: None for configs()."""
    model = draw(configs() if config is None else config, label="config")
    steps = draw(st.integers(1, max_steps), label="steps")
    batch_size = draw(st.integers(1, max_batch), label="batch_size")
    docs = draw(st.lists(documents(model), min_size=1, max_size=steps * batch_size), label="documents")
    state = draw(states(model, max_scale=max_scale))
    hyper = draw(hypers(min_num_steps=state.step + steps), label="hyper")
    return Case(model, hyper, state, docs, batch_size, steps)


def _gaussian(draw: DrawFn, config: Config, label: str, number: Callable[[random.Random], float]) -> Matrices:
    # Drawn float by float, 4,000 weights would exceed what Hypothesis allows an example, and take seconds to shrink.
    rng = random.Random(draw(st.integers(0, MAX_SEED), label=label))
    return {
        name: [[number(rng) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns) in config.shapes().items()
    }


def _sums_of_squares(left: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    return [[a * a + b * b for a, b in zip(*rows)] for rows in zip(left, right)]
