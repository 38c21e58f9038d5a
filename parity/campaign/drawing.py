"""How the cases of a campaign are drawn: small ones at the edges, and models in the midst of training."""

import random
from collections.abc import Iterator
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from parity.case import Case
from parity.errors import NoExpectation
from parity.oracle.scalar import Scalar
from parity.testing.strategies import SEEDS, cases
from reference.config import Config, Hyper, State
from reference.microgpt import init_params, init_state

_MOST_TRAINED = 60


@st.composite
def trained_cases(draw: DrawFn) -> Case:
    """A few steps of a model of one to six layers and up to four heads, whose weights have been trained for a while.

    Weights, rates and betas are those of training; documents are drawn, up to longer than the block.
    """
    n_layer, n_head = draw(st.integers(1, 6), label="n_layer"), draw(st.integers(1, 4), label="n_head")
    head_dim = draw(st.integers(1, 2 if n_layer > 2 else 4), label="head_dim")
    config = Config(
        n_layer=n_layer,
        n_embd=n_head * head_dim,
        n_head=n_head,
        block_size=draw(st.integers(1, 8), label="block_size"),
        vocab_size=draw(st.integers(2, 12), label="vocab_size"),
        init_std=10 ** draw(st.floats(-1.7, -0.6), label="exponent of init_std"),
        activation=draw(st.sampled_from(("relu", "relu2")), label="activation"),
    )
    hyper = Hyper(
        learning_rate=10 ** draw(st.floats(-4, -1.5), label="exponent of the rate"),
        beta1=draw(st.floats(0, 0.95), label="beta1"),
        beta2=draw(st.floats(0.5, 0.999), label="beta2"),
    )
    bos = config.vocab_size - 1
    tokens = st.lists(st.integers(0, max(0, bos - 1)), max_size=config.block_size + 2)
    documents = [[bos, *inner, bos] for inner in draw(st.lists(tokens, min_size=1, max_size=8), label="documents")]
    state = init_state(init_params(config, random.Random(draw(SEEDS, label="seed of the weights"))))
    try:
        state = trained(config, hyper, state, documents, draw(st.integers(0, _MOST_TRAINED), label="steps before"))
    except NoExpectation:  # training blew up: the reference itself has no answer
        reject()
    batch_size, steps = draw(st.integers(1, 4), label="batch_size"), draw(st.integers(1, 4), label="steps")
    return Case(config, hyper, state, documents, batch_size, steps)


def trained(config: Config, hyper: Hyper, state: State, documents: list[list[int]], steps: int) -> State:
    """The state after some steps of one document each; NoExpectation where the reference has no answer on the way."""
    oracle = Scalar(config, hyper)
    oracle.load(state)
    for step in range(steps):
        oracle.train_step([documents[step % len(documents)]])
    return oracle.replay.state


DRAWS: dict[str, SearchStrategy[Case]] = {"edges": cases(), "training": trained_cases()}
"""By name: small cases that mostly lie at an edge of sizes, documents, weights or schedule; and models in training."""


def exercised(case: Case) -> Iterator[str]:
    """What a case does that others may not, in words that are counted."""
    config, state = case.config, case.state
    used = [tokens for batch in case.batches() for tokens in batch]
    lengths = [len(tokens) - 2 for tokens in used]
    params = state.params
    matrices: list[Any] = [[x for row in matrix for x in row] for matrix in params.values()]
    last = state.step + case.steps == case.hyper.num_steps
    found = {
        "several layers": config.n_layer > 1,
        "one head": config.n_head == 1,
        "heads of size 1": config.head_dim == 1,
        "squared ReLU": config.activation == "relu2",
        "cosine schedule": case.hyper.lr_schedule == "cosine",
        "batches of several documents": case.batch_size > 1,
        "empty documents": 0 in lengths,
        "documents longer than the block": any(length + 1 > config.block_size for length in lengths),
        "a token repeated": any(len(set(tokens[1:-1])) < length for tokens, length in zip(used, lengths)),
        "mid-training": state.step > 0,
        "the schedule's last step": last,
        "rate 0": case.hyper.learning_rate == 0,
        "weights: zeros": any(not any(matrix) for matrix in matrices),
        "weights: one value": any(len(matrix) > 1 and len(set(matrix)) == 1 for matrix in matrices),
        "weights: subnormal": any(0 < max(map(abs, matrix)) < 1e-30 for matrix in matrices),
        "weights: huge": any(max(map(abs, matrix)) > 10 for matrix in matrices),
        "ReLUs with negative weights alone": any(
            all(x <= 0 for x in row) for name in params if name.endswith("mlp_fc1") for row in params[name]
        ),
    }
    return (words for words, does in found.items() if does)
