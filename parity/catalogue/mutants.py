"""Mutants: the reference with one deliberate, named mistake each, as people make them who port it.

A mutant is made by replacing text in the source of `reference.microgpt` in memory, so that all the rest of it is the
reference. It serves to show what a check catches, and to name the mistake of a subject that behaves just like it.
"""

import inspect
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

from reference import microgpt
from reference.config import Config, Hyper, State, Step

SOURCE = inspect.getsource(microgpt)


@dataclass(frozen=True)
class Mutant:
    """The reference with one mistake.

    mistake: a sentence that says what is wrong. edits: pairs of a text that the reference's source holds exactly
    once, and what stands in its place.
    """

    name: str
    mistake: str
    edits: tuple[tuple[str, str], ...]

    @cached_property
    def module(self) -> ModuleType:
        """`reference.microgpt` with the edits made; ValueError where a text does not stand there exactly once."""
        source = SOURCE
        for old, new in self.edits:
            if SOURCE.count(old) != 1 or source.count(old) != 1:
                raise ValueError(f"{old!r} does not stand in the reference's source exactly once ({self.name}).")
            source = source.replace(old, new)
        module = ModuleType(f"reference with {self.name}")
        exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
        return module

    def make(self, config: Config, hyper: Hyper) -> "MutantSubject":
        """The mutant as a subject, which computes in float64."""
        return MutantSubject(self, config, hyper)


class MutantSubject:
    """A mutant at work, as `parity.subjects.subject.Reference` is the reference at work."""

    dtype = "float64"

    def __init__(self, mutant: Mutant, config: Config, hyper: Hyper) -> None:
        self.model, self.config, self.hyper = mutant.module, config, hyper

    def load(self, state: State) -> None:
        """Start from this state."""
        self.state = state

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents, all as nested lists of floats."""
        self.state, step = self.model.train_step(self.state, batch, self.config, self.hyper)
        return step  # type: ignore[no-any-return]


FRESH_ROW = """def fresh_row(matrix, token):
    matrix[token] = [Value(a.data) for a in matrix[token]]
    return matrix[token]


def gpt("""

TOKEN_MEAN = """tokens = sum(len(logits) for _, logits in results)
    loss = (1 / tokens) * sum(len(logits) * loss for loss, logits in results)"""

ALL = (
    Mutant(
        "scores_not_scaled",
        "Attention scores are not divided by the square root of head_dim.",
        ((" / config.head_dim**0.5", ""),),
    ),
    Mutant(
        "scores_scaled_by_n_embd",
        "Attention scores are divided by the square root of n_embd instead of head_dim.",
        ((" / config.head_dim**0.5", " / config.n_embd**0.5"),),
    ),
    Mutant(
        "wq_transposed",
        "The query weights attn_wq are applied transposed: columns are taken for rows.",
        (('linear(x, params[f"{layer}.attn_wq"])', 'linear(x, list(zip(*params[f"{layer}.attn_wq"])))'),),
    ),
    Mutant(
        "heads_interleaved",
        "A head takes every n_head-th element of q, k and v instead of head_dim elements in a row.",
        (
            (
                "[x[start : start + config.head_dim] for start in range(0, config.n_embd, config.head_dim)]",
                "[x[start :: config.n_head] for start in range(config.n_head)]",
            ),
        ),
    ),
    Mutant(
        "current_position_hidden",
        "A position attends only to the positions before it, not to itself: the causal mask is off by one.",
        (("for k_heads in keys[i]]", "for k_heads in keys[i][:-1] or keys[i]]"),),
    ),
    Mutant(
        "attention_residual_missing",
        "The residual connection around attention is missing.",
        (('attn_wo"])\n        x = [a + b for a, b in zip(x, residual)]', 'attn_wo"])'),),
    ),
    Mutant(
        "mlp_residual_missing",
        "The residual connection around the MLP is missing.",
        (('mlp_fc2"])\n        x = [a + b for a, b in zip(x, residual)]', 'mlp_fc2"])'),),
    ),
    Mutant(
        "residual_after_norm",
        "The residual connection around attention starts after the norm instead of before it.",
        (
            (
                'residual = x\n        x = tap(f"{layer}.attn.norm", rmsnorm(x))',
                'x = tap(f"{layer}.attn.norm", rmsnorm(x))\n        residual = x',
            ),
        ),
    ),
    Mutant(
        "first_norm_missing",
        "The embeddings are not normalised before the first layer.",
        (('tap("norm", rmsnorm(x))', 'tap("norm", x)'),),
    ),
    Mutant(
        "final_norm_added",
        "There is a norm before lm_head, where the reference has none.",
        (('linear(x, params["lm_head"])', 'linear(rmsnorm(x), params["lm_head"])'),),
    ),
    Mutant(
        "lm_head_tied",
        "The logits are computed with wte instead of lm_head: the weights are tied.",
        (('linear(x, params["lm_head"])', 'linear(x, params["wte"])'),),
    ),
    Mutant(
        "norm_without_eps",
        "The norm does not add 1e-5 to the mean square.",
        (("(mean_square + 1e-5)", "mean_square"),),
    ),
    Mutant(
        "norm_subtracts_mean",
        "The norm subtracts the mean first: it is LayerNorm instead of RMSNorm.",
        (("    mean_square = ", "    mean = sum(x) / len(x)\n    x = [a - mean for a in x]\n    mean_square = "),),
    ),
    Mutant(
        "gelu",
        "The activation is GELU (its tanh form) instead of ReLU.",
        (("a.relu()", "a / (1 + (-1.5957691216057308 * (a + 0.044715 * a**3)).exp())"),),
    ),
    Mutant(
        "activation_confused",
        "The activation is the square of ReLU where it should be ReLU, or ReLU where it should be its square.",
        (('config.activation == "relu2"', 'config.activation != "relu2"'),),
    ),
    Mutant(
        "schedule_confused",
        "The learning rate falls linearly where it should fall as a cosine, or as a cosine where it should linearly.",
        (('hyper.lr_schedule == "cosine"', 'hyper.lr_schedule != "cosine"'),),
    ),
    Mutant(
        "positions_from_one",
        "Position embeddings are one row too far: positions are counted from 1.",
        (('params["wpe"][position]', 'params["wpe"][(position + 1) % config.block_size]'),),
    ),
    Mutant(
        "targets_not_shifted",
        "Every position predicts its own token instead of the next one: targets are not shifted.",
        (("probs[tokens[position + 1]]", "probs[tokens[position]]"),),
    ),
    Mutant(
        "loss_summed_over_positions",
        "A document's loss is the sum over its positions instead of their mean.",
        (("(1 / n) * sum(losses)", "sum(losses)"),),
    ),
    Mutant(
        "loss_summed_over_batch",
        "The batch's loss is the sum over its documents instead of their mean.",
        (("(1 / len(batch)) * sum(", "sum("),),
    ),
    Mutant(
        "loss_mean_over_tokens",
        "The batch's loss is the mean over all of its positions instead of the mean of its documents' means.",
        (("loss = (1 / len(batch)) * sum(loss for loss, _ in results)", TOKEN_MEAN),),
    ),
    Mutant(
        "last_block",
        "Of a document longer than the block the last positions are used instead of the first ones.",
        (
            (
                "n = min(config.block_size, len(tokens) - 1)",
                "n = min(config.block_size, len(tokens) - 1)\n    tokens = tokens[-n - 1 :]",
            ),
        ),
    ),
    Mutant(
        "repeated_token_overwritten",
        "Gradients of a token that occurs repeatedly are overwritten by those of its last occurrence, not added up.",
        (("def gpt(", FRESH_ROW), ('params["wte"][token]', 'fresh_row(params["wte"], token)')),
    ),
    Mutant(
        "norm_scale_constant",
        "Backward takes the scale of the norm for a constant: no gradient flows through the mean square.",
        (("[a * scale for a in x]", "[a * scale.data for a in x]"),),
    ),
    Mutant(
        "cache_detached",
        "No gradient flows through the keys and values of earlier positions and of this one: the cache is detached.",
        (
            ("split_heads(k, config)", "split_heads([Value(a.data) for a in k], config)"),
            ("split_heads(v, config)", "split_heads([Value(a.data) for a in v], config)"),
        ),
    ),
    Mutant(
        "eps_inside_root",
        "Adam adds eps inside the square root instead of to the root.",
        (("(v**0.5 + hyper.eps_adam)", "(v + hyper.eps_adam) ** 0.5"),),
    ),
    Mutant(
        "no_bias_correction",
        "Adam's moments are not bias-corrected.",
        (("1 - hyper.beta1 ** (state.step + 1)", "1"), ("1 - hyper.beta2 ** (state.step + 1)", "1")),
    ),
    Mutant(
        "v_not_corrected",
        "Adam's second moment is not bias-corrected, only the first one is.",
        (("1 - hyper.beta2 ** (state.step + 1)", "1"),),
    ),
    Mutant(
        "correction_one_step_ahead",
        "Adam's bias correction counts one step too many: its first step is number 2.",
        (
            ("hyper.beta1 ** (state.step + 1)", "hyper.beta1 ** (state.step + 2)"),
            ("hyper.beta2 ** (state.step + 1)", "hyper.beta2 ** (state.step + 2)"),
        ),
    ),
    Mutant(
        "m_with_beta2",
        "Adam averages the first moment with beta2 instead of beta1.",
        (("hyper.beta1 * m + (1 - hyper.beta1) * g", "hyper.beta2 * m + (1 - hyper.beta2) * g"),),
    ),
    Mutant(
        "rate_one_step_ahead",
        "The learning rate decays one step too early: it is that of step + 1.",
        (("progress = step / hyper.num_steps", "progress = (step + 1) / hyper.num_steps"),),
    ),
    Mutant(
        "rate_constant",
        "The learning rate does not decay.",
        (("hyper.learning_rate * decay", "hyper.learning_rate"),),
    ),
    Mutant(
        "weight_decay",
        "Weights decay by 0.01 of the learning rate, as AdamW's do unless told otherwise.",
        (("lambda p, u: p - u", "lambda p, u: p - u - 0.01 * rate * p"),),
    ),
    Mutant(
        "never_updated",
        "The weights are never updated.",
        (("lambda p, u: p - u", "lambda p, u: p"),),
    ),
)

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in ALL}
"""By name."""
