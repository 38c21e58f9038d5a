"""The cases of the conformance vectors before their weights are drawn: what each is there for."""

import random
from dataclasses import dataclass
from typing import Any

from parity.case import Case
from parity.trees import mapped
from reference.config import Config, Hyper, State


@dataclass(frozen=True)
class Plan:
    """A case before its weights are drawn."""

    name: str
    exercises: str
    """What it is there for, as the end of a sentence."""
    config: Config
    hyper: Hyper
    documents: tuple[tuple[int, ...], ...]
    """Without BOS."""
    mistakes: tuple[str, ...] | None
    """Names of the mutants whose answers it holds; None for all that show in it."""
    batch_size: int = 1
    start: int = 0
    """The step that it starts from."""

    def drawn(self, seed: int) -> Case:
        """The case with weights (and moments, in mid-training) that are short numbers, exact in every format."""
        rng, bos = random.Random(seed), self.config.vocab_size - 1

        def matrices(scale: float, bits: int) -> dict[str, Any]:
            return {
                name: [[round(rng.gauss(0, scale) * 2**bits) / 2**bits for _ in range(columns)] for _ in range(rows)]
                for name, (rows, columns) in self.config.shapes().items()
            }

        params, m, spread = matrices(self.config.init_std, 10), matrices(0.02, 12), matrices(0.02, 12)
        # No mean of squares is below the square of the mean.
        v = {name: [[a * a + b * b for a, b in zip(*rows)] for rows in zip(m[name], spread[name])] for name in m}
        if not self.start:
            m, v = mapped(lambda x: 0.0, m), mapped(lambda x: 0.0, v)
        documents = [[bos, *tokens, bos] for tokens in self.documents]
        steps = len(documents) // self.batch_size
        return Case(self.config, self.hyper, State(params, m, v, self.start), documents, self.batch_size, steps)


PLANS = (
    Plan(
        "small",
        "one layer, two heads, a repeated token, a token that never occurs (its gradients are exactly 0)",
        Config(n_embd=4, n_head=2, block_size=5, vocab_size=6, init_std=0.3),
        Hyper(num_steps=50),
        ((0, 1, 1, 2), (3, 0, 3), (2, 1, 0)),
        mistakes=None,
    ),
    Plan(
        "batch",
        "batches of three documents, some of them empty, of one token, or longer than the block",
        Config(n_embd=6, n_head=3, block_size=4, vocab_size=6, init_std=0.3),
        Hyper(num_steps=50),
        ((0, 0, 1), (), (2, 1, 3, 0, 4, 2), (4,), (1, 3, 3, 2, 1), (0, 2)),
        ("loss_summed_over_batch", "loss_mean_over_tokens", "last_block", "repeated_token_overwritten"),
        batch_size=3,
    ),
    Plan(
        "squared",
        "the square of ReLU, the cosine schedule, other betas",
        Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, init_std=0.4, activation="relu2"),
        Hyper(beta1=0.9, beta2=0.95, num_steps=10, lr_schedule="cosine"),
        ((0, 2, 2), (1, 3), (3, 0, 1, 1)),
        ("activation_confused", "schedule_confused", "gelu", "rate_one_step_ahead", "rate_constant"),
    ),
    Plan(
        "resumed",
        "a start in mid-training, at step 7 with moments other than 0",
        Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, init_std=0.3),
        Hyper(num_steps=12),
        ((3, 1, 0), (2, 2), (0, 1, 2)),
        ("no_bias_correction", "correction_one_step_ahead", "m_with_beta2", "rate_one_step_ahead"),
        start=7,
    ),
    Plan(
        "thin-heads",
        "as many heads as embedding dimensions: their size is 1",
        Config(n_embd=4, n_head=4, block_size=3, vocab_size=5, init_std=0.4),
        Hyper(num_steps=50),
        ((1, 0, 2, 3, 1), (2, 1)),
        ("scores_scaled_by_n_embd", "current_position_hidden", "last_block"),
    ),
    Plan(
        "layers",
        "two layers, four heads, documents longer than the block",
        Config(n_layer=2, n_embd=8, n_head=4, block_size=4, vocab_size=5, init_std=0.2),
        Hyper(num_steps=50),
        ((1, 0, 2, 2, 3, 1), (0, 3, 3, 1)),
        ("scores_not_scaled", "wq_transposed", "heads_interleaved", "residual_after_norm"),
    ),
    Plan(
        "default",
        "the sizes and hyper-parameters of microGPT itself, for ports that have no others; a document longer than the "
        "block",
        Config(),
        Hyper(),
        ((4, 12, 12, 0), (12, 0, 17, 8, 0, 13, 13, 4, 18, 19, 4, 11, 11, 0, 7, 14, 15, 4)),
        ("scores_not_scaled", "rate_one_step_ahead"),
    ),
)
