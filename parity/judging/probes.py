"""Probes: a handful of small cases that a check runs besides the main one, so that no known mistake can hide.

At the default sizes n_head equals head_dim and n_embd equals block_size, documents are shorter than the block, there
is one layer, and weights are small: a mistake that confuses two sizes, or that only long documents, large numbers or a
late step show, changes nothing there. Each probe does what the default case does not. They are combinations of `SIZES`,
`WEIGHTS` and `OPTIMIZERS`; every mutant of `parity.catalogue.mutants` shows in one of them, or in the default case, in
float64 and, but for a mask of -10,000, in float32 (`python -m benchmarks.probes`, which with --choose looks for such a
set by a greedy cover).

All numbers are short enough to be exact in bfloat16, and eps_adam is a number in float16, whose squares reach down to
6e-8 only: where v is smaller, eps is all that keeps an update finite.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from parity.case import Case
from reference.config import Config, Hyper, State

_Matrices = dict[str, Any]

EVERY_FORMAT = ("float64", "float32", "bfloat16", "float16")
WIDE_RANGE = ("float64", "float32", "bfloat16")
"""Those with eight bits of exponent at least; in float16 the reference's own intermediate results overflow."""
DOUBLE = ("float64",)
"""That in which scores of many thousands are neither chance nor more than flash attention, which makes its weights
anew from the logarithm of their sum, has digits for."""


@dataclass(frozen=True)
class Probe:
    """A small case, and why there is it.

    exercises: what it does that the default case does not, as the end of a sentence. otherwise: the options of
    `parity check` that exercise much of that without the probe; empty where there are none, since no option makes such
    weights. formats: the number formats in which every correct implementation has an answer.
    """

    name: str
    exercises: str
    otherwise: str
    case: Case
    formats: tuple[str, ...] = EVERY_FORMAT


@dataclass(frozen=True)
class Size:
    """A model's shape and documents without BOS, batch by batch."""

    config: Config
    documents: tuple[tuple[int, ...], ...]
    batch_size: int = 1


@dataclass(frozen=True)
class Optimizer:
    """Hyper-parameters, the activation, and the step at which a run starts: with moments, if not the first one."""

    hyper: Hyper
    activation: str = "relu"
    start: int = 0


@dataclass(frozen=True)
class Combination:
    """A combination, by name."""

    size: str
    weights: str
    optimizer: str
    steps: int = 1

    def formats(self, activation: str = "") -> tuple[str, ...]:
        """In which every correct implementation has an answer, with the activation of a model instead of its own."""
        return _formats(self.weights, activation or OPTIMIZERS[self.optimizer].activation)

    def case(self, seed: int = 1, activation: str = "", lr_schedule: str = "") -> Case:
        """The case with weights, and moments in mid-training, drawn from a seed.

        activation, lr_schedule: those of a model, instead of its own.
        """
        size, optimizer = SIZES[self.size], OPTIMIZERS[self.optimizer]
        config = replace(size.config, activation=activation or optimizer.activation)
        hyper = replace(optimizer.hyper, lr_schedule=lr_schedule or optimizer.hyper.lr_schedule)
        # Squares of ReLUs grow too large for float16 with more.
        std, bos = 0.3 if "relu2" in (config.activation, optimizer.activation) else 0.4, config.vocab_size - 1
        state = _state(config, seed, self.weights, std, optimizer.start)
        documents = [[bos, *tokens, bos] for tokens in size.documents]
        return Case(config, hyper, state, documents, size.batch_size, self.steps)


def _formats(weights: str, activation: str) -> tuple[str, ...]:
    if weights == "repelled attention":
        return DOUBLE
    squares = weights == "large" and activation == "relu2"
    return WIDE_RANGE if squares or weights in ("saturated output", "vanishing") else EVERY_FORMAT


def _state(config: Config, seed: int, weights: str, std: float, start: int) -> State:
    """Such weights, and moments in mid-training where the run does not start at step 0."""
    params, in_training = _drawn(config, seed, std), 0.1 if start else 0.0
    WEIGHTS[weights](params, config)
    m, spread = _drawn(config, seed + 1, in_training), _drawn(config, seed + 2, in_training)
    # No mean of squares is below the square of the mean.
    v = {name: [[a * a + b * b for a, b in zip(*rows)] for rows in zip(m[name], spread[name])] for name in m}
    return State(params, m, v, start)


def _drawn(config: Config, seed: int, std: float) -> _Matrices:
    """Gaussian matrices of whole sixty-fourths."""
    rng = random.Random(seed)
    return {
        name: [[round(rng.gauss(0, std) * 64) / 64 for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns) in config.shapes().items()
    }


def _scale(params: _Matrices, **factors: float) -> None:
    for name, matrix in params.items():
        factor = factors.get(name.rpartition(".")[2], 1.0)
        params[name] = [[factor * x for x in row] for row in matrix]


def _plain(params: _Matrices, config: Config) -> None:
    pass


def _large(params: _Matrices, config: Config) -> None:
    # Inputs of ReLUs above 100, gradients above 1; fc2 keeps logits where float16 has numbers for their exponentials.
    if config.activation == "relu":
        _scale(params, mlp_fc1=128.0, mlp_fc2=2.0**-7)
    else:
        _scale(params, mlp_fc1=64.0, mlp_fc2=2.0**-13)


def _saturated_attention(params: _Matrices, config: Config) -> None:
    # Scores of many hundreds: attention looks at one position alone.
    _scale(params, attn_wq=32.0, attn_wk=32.0)


def _repelled_attention(params: _Matrices, config: Config) -> None:
    # Each position's score of itself, at the first one the only score, is far below what a finite mask would put there.
    _scale(params, attn_wq=256.0)
    for name in list(params):
        if name.endswith("attn_wk"):
            params[name] = [[-x for x in row] for row in params[name.replace("attn_wk", "attn_wq")]]


def _learned(params: _Matrices, config: Config) -> None:
    # A component that all embeddings have in common makes token 0 all but certain, so that the loss is small.
    for name in ("wte", "wpe"):
        params[name] = [[4.0, *row[1:]] for row in params[name]]
    params["lm_head"] = [[-2.0 if token else 3.0, *row[1:]] for token, row in enumerate(params["lm_head"])]


def _saturated_output(params: _Matrices, config: Config) -> None:
    # Probabilities of 1 and next to 0. What layers add must stay small, or float32 has no number for the latter.
    _scale(params, lm_head=16.0, attn_wo=2.0**-3, mlp_fc2=2.0**-3)


def _vanishing(params: _Matrices, config: Config) -> None:
    # The embedding of BOS at position 0 is exactly 0 in any arithmetic; that of token 0 at position 1 is so small that
    # the norm's eps is most of what it divides by; and every third ReLU has inputs of exactly 0.
    params["wte"][-1] = [-x for x in params["wpe"][0]]
    params["wte"][0], params["wpe"][1] = ([x / 256 for x in row] for row in (params["wte"][0], params["wpe"][1]))
    for name, matrix in params.items():
        if name.endswith("mlp_fc1"):
            params[name] = [row if i % 3 else [0.0] * len(row) for i, row in enumerate(matrix)]


SIZES = {
    "one layer": Size(
        Config(n_embd=6, n_head=2, block_size=5, vocab_size=7),
        ((0, 1, 1, 2), (3, 0, 3, 4, 5, 2), ()),
        batch_size=3,
    ),
    "two layers": Size(
        Config(n_layer=2, n_embd=6, n_head=3, block_size=4, vocab_size=5),
        ((3, 0, 3, 2, 1), (1, 1), (), (1, 1)),
        batch_size=4,
    ),
    "three layers": Size(
        Config(n_layer=3, n_embd=6, n_head=3, block_size=4, vocab_size=5),
        ((3, 0, 3, 2, 1), (1, 1), ()),
        batch_size=3,
    ),
    "one token": Size(Config(n_embd=6, n_head=2, block_size=4, vocab_size=5), ((0, 0, 0, 0), (0, 0, 0, 0, 0)), 2),
    "tiny": Size(Config(n_embd=6, n_head=2, block_size=4, vocab_size=5), ((0, 1, 1),)),
    "long block": Size(
        Config(n_embd=6, n_head=2, block_size=14, vocab_size=5), ((0, 1, 2, 3, 3, 0, 1, 2, 3, 3, 0, 1, 2, 3, 3),)
    ),
}

WEIGHTS: dict[str, Callable[[_Matrices, Config], None]] = {
    "plain": _plain,
    "large": _large,
    "saturated attention": _saturated_attention,
    "repelled attention": _repelled_attention,
    "saturated output": _saturated_output,
    "learned": _learned,
    "vanishing": _vanishing,
}

OPTIMIZERS = {
    "fresh": Optimizer(Hyper(num_steps=50, eps_adam=2**-8)),
    "fast": Optimizer(Hyper(learning_rate=64.0, beta1=0.75, beta2=0.9, eps_adam=2**-6, num_steps=130), start=64),
    "early": Optimizer(Hyper(learning_rate=2**-4, beta1=0.75, beta2=0.9, eps_adam=2**-6, num_steps=130), start=3),
    "late": Optimizer(Hyper(learning_rate=2**-4, beta1=0.75, beta2=0.9, eps_adam=2**-6, num_steps=130), start=124),
    "fresh, squared": Optimizer(
        Hyper(learning_rate=2**-5, beta1=0.9, beta2=0.95, eps_adam=2**-7, num_steps=40, lr_schedule="cosine"),
        "relu2",
    ),
    "late, squared": Optimizer(
        Hyper(learning_rate=2**-5, beta1=0.5, beta2=0.875, eps_adam=2**-7, num_steps=40, lr_schedule="cosine"),
        "relu2",
        start=25,
    ),
}

_NO_OPTION = ""
CHOSEN = {
    "two-layers": (
        Combination("two layers", "plain", "fresh", steps=2),
        "two layers, three heads of size 2, no two sizes alike, and twice the same batch of four documents: "
        "one longer than the block, one shorter and there twice, one empty",
        "--n-layer 2 --n-embd 6 --n-head 3 --block-size 4 --batch-size 4 --num-steps 50",
    ),
    "three-layers": (
        Combination("three layers", "plain", "late, squared"),
        "three layers, moments from earlier steps, other betas, and a schedule far on",
        "--n-layer 3 --batch-size 3",
    ),
    "long": (
        Combination("long block", "plain", "late"),
        "a document of 16 tokens in a block of 14, other hyper-parameters, and the last twentieth of the schedule",
        "--names FILE with longer documents, --block-size 14, --num-steps 20",
    ),
    "large": (
        Combination("one layer", "large", "late"),
        "inputs of ReLUs above 100, and gradients above 1",
        _NO_OPTION,
    ),
    "saturated-attention": (
        Combination("one layer", "saturated attention", "late"),
        "attention scores of many hundreds",
        _NO_OPTION,
    ),
    "repelled-attention": (
        Combination("one layer", "repelled attention", "late"),
        "attention scores below -10,000",
        _NO_OPTION,
    ),
    "learned": (
        Combination("one token", "learned", "fast"),
        "a loss next to 0, and updates above 10",
        _NO_OPTION,
    ),
    "saturated-output": (
        Combination("one layer", "saturated output", "late"),
        "probabilities of nearly 1 and below 1e-7",
        _NO_OPTION,
    ),
    "vanishing": (
        Combination("one layer", "vanishing", "late"),
        "embeddings that are 0 or next to it, and inputs of ReLUs that are exactly 0",
        _NO_OPTION,
    ),
}
"""The probes: a combination each, what it exercises, and the options that exercise much of it otherwise."""


@lru_cache
def _all(activation: str = "", lr_schedule: str = "") -> tuple[Probe, ...]:
    return tuple(
        Probe(
            name,
            exercises,
            otherwise,
            plan.case(activation=activation, lr_schedule=lr_schedule),
            plan.formats(activation),
        )
        for name, (plan, exercises, otherwise) in CHOSEN.items()
    )


def probes(form: str | None = None) -> tuple[Probe, ...]:
    """The probes, all of them or those of a number format."""
    return tuple(probe for probe in _all() if form is None or form in probe.formats)


def probes_for(config: Config, hyper: Hyper, form: str) -> tuple[Probe, ...]:
    """The probes of a model that computes in a format: with its activation and its schedule, at sizes of their own."""
    return tuple(probe for probe in _all(config.activation, hyper.lr_schedule) if form in probe.formats)


def out_of_reach(config: Config, hyper: Hyper, form: str) -> tuple[Probe, ...]:
    """Those in which correct implementations of such a model have no answer in the format."""
    return tuple(probe for probe in _all(config.activation, hyper.lr_schedule) if form not in probe.formats)


def probes_of_given_size(config: Config, hyper: Hyper, form: str) -> tuple[Probe, ...]:
    """What is left for a model that has but one size and these hyper-parameters: other documents, weights, steps."""
    bos, block = config.vocab_size - 1, config.block_size
    if not bos:
        return ()
    rng = random.Random(1)
    long = [bos, *(rng.randrange(bos) for _ in range(block + 2)), bos]
    documents = [long, [bos, 0, 0, bos], [bos, bos]]
    start = max(0, hyper.num_steps - 6) if hyper.num_steps > 1 else 0
    found = []
    for weights in WEIGHTS:
        formats = _formats(weights, config.activation)
        # In short formats scores of many hundreds are chance at this size.
        if form not in formats or (weights == "saturated attention" and form not in ("float64", "float32")):
            continue
        # As large as those of the other probes, in sums over more terms.
        std = 0.4 * min(1.0, math.sqrt(6 / config.n_embd))
        state = _state(config, 1, weights, std, start)
        case = Case(config, hyper, state, documents, batch_size=len(documents), steps=1)
        exercises = f"a batch of documents, one longer than the block, and {weights} weights late in training"
        found.append(Probe(f"given-size-{weights.replace(' ', '-')}", exercises, _NO_OPTION, case, formats))
    return tuple(found)
