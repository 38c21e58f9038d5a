"""What every rung of the ladder is tested on: a small model in mid-training, and documents of unlike length."""

import random
from dataclasses import replace

from hypothesis import given, settings

from parity import Case, Config, Hyper, State
from parity.strategies import cases
from parity.testing import assert_parity
from reference.microgpt import init_params

SMALL = Config(n_layer=2, n_embd=8, n_head=2, block_size=6, vocab_size=7, init_std=0.3)
BOS = SMALL.vocab_size - 1
UNLIKE = [
    [BOS, 0, 1, 0, BOS],
    [BOS, BOS],
    [BOS, 0, 1, 2, 3, 4, 5, 4, 3, BOS],  # longer than the block
    [BOS, 5, BOS],
    [BOS, 2, 2, BOS],
]


def small(hyper: Hyper | None = None, *, batch_size: int = 5, steps: int = 2, **changes: int | str) -> Case:
    """A case of the small model in mid-training, on documents of unlike length."""
    config = replace(SMALL, **changes)
    params, m, v = (init_params(config, random.Random(seed)) for seed in range(3))
    v = {name: [[x * x + y * y for x, y in zip(*rows)] for rows in zip(m[name], v[name])] for name in v}
    return Case(config, hyper or Hyper(), State(params, m, v, step=7), UNLIKE, batch_size, steps)


CASES = {
    "documents of unlike length": small(),
    "one document a step": small(batch_size=1, steps=3),
    "squared ReLU, cosine, one head": small(Hyper(lr_schedule="cosine"), activation="relu2", n_head=1, n_layer=1),
    "head size 1": small(n_head=8, n_layer=1),
    "preset of 200 lines": Case.from_names(batch_size=4, steps=1),
    "early preset": Case.from_names(preset="microgpt_early", batch_size=4, steps=1),
}


def name(rung: str) -> str:
    """The address of a rung's factory."""
    return f"torch_twin.{rung}:make"


def agree_on_drawn_cases(subject: str) -> None:
    """The property that a subject, by name, is at parity on any case that is drawn."""

    @settings(max_examples=max(1, settings.default.max_examples // 4))
    @given(case=cases())
    def agrees(case):
        assert_parity(subject, case)

    agrees()
