"""Mistakes in attention, but for what a position attends to."""

from parity.catalogue.mutants.mutant import Mutant, of_stage
from parity.catalogue.mutants.together import (
    SOFTMAX_OF_COLUMNS,
    TRANSPOSED,
    VIEWED_AS_HEADS,
    VIEWED_AS_POSITIONS,
    mixing,
)

_SPLIT = "[x[start : start + config.head_dim] for start in range(0, config.n_embd, config.head_dim)]"
_SCALING = " / config.head_dim**0.5"
_SCORE = "sum(a * b for a, b in zip(q_head, k_heads[h])) / config.head_dim**0.5"
_QUERIES = 'q", linear(x, params[f"{layer}.attn_w'
_KEYS_MADE = """"]))
        k = tap(f"{layer}.attn.k", linear(x, params[f"{layer}.attn_w"""
_END = '"]))'
_KEYS_AND_VALUES = 'k", linear(x, params[f"{layer}.attn_w'
_VALUES_MADE = """"]))
        v = tap(f"{layer}.attn.v", linear(x, params[f"{layer}.attn_w"""
_TAKEN_APART = """fused, size = [*q, *k, *v], config.head_dim
        parts = [fused[start : start + size] for start in range(0, len(fused), size)]
        q, k, v = ([a for part in parts[which::3] for a in part] for which in range(3))"""


def _transposed(letter: str) -> tuple[tuple[str, str], ...]:
    """Edits that apply one of attn_wq, attn_wk, attn_wv, attn_wo transposed."""
    weights = f'params[f"{{layer}}.attn_w{letter}"]'
    return ((f"linear(x, {weights})", f"linear(x, list(zip(*{weights})))"),)


ATTENTION = of_stage(
    "attention",
    Mutant(
        "scores_not_scaled",
        "Attention scores are not divided by the square root of head_dim.",
        ((_SCALING, ""),),
        in_vectors=True,
        sources=("mlc-ai/mlc-llm#3426",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "scores_scaled_by_n_embd",
        "Attention scores are divided by the square root of n_embd instead of head_dim.",
        ((_SCALING, " / config.n_embd**0.5"),),
        in_vectors=True,
        sources=("karpathy/ng-video-lecture#6", "lucidrains/vit-pytorch#65", "FareedKhan-dev/train-llm-from-scratch#3"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "scores_scaled_by_n_head",
        "Attention scores are divided by the square root of n_head instead of head_dim.",
        ((_SCALING, " / config.n_head**0.5"),),
        sources=("tenstorrent/tt-metal#56789",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "scores_scaled_by_head_dim",
        "Attention scores are divided by head_dim instead of its square root.",
        ((_SCALING, " / config.head_dim"),),
        sources=("delzac/cntkx#10", "AI-Hypercomputer/maxtext#3138"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "scores_halved",
        "Attention scores are divided by 2, which is right for heads of size 4.",
        ((_SCALING, " / 2"),),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "weights_scaled",
        "Attention is scaled after the softmax instead of before it.",
        (
            (_SCALING, ""),
            (
                "[softmax(row) for row in scores]",
                "[[w / config.head_dim**0.5 for w in softmax(row)] for row in scores]",
            ),
        ),
        sources=("FrancescoSaverioZuppichini/ViT#2",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "score_gradient_not_scaled",
        "Backward forgets that attention scores were divided by the square root of head_dim.",
        (
            (_SCORE, f"times({_SCORE.removesuffix(_SCALING)}, config.head_dim**-0.5)"),
            ("def gpt(", "def times(x, factor):\n    return Value(x.data * factor, (x,), (1.0,))\n\n\ndef gpt("),
        ),
        place="grad attn_wk",
    ),
    Mutant(
        "scores_capped",
        "Attention scores are cut off at 50, and so is their gradient.",
        (
            (_SCORE, f"capped({_SCORE})"),
            ("def gpt(", "def capped(x):\n    return x if x.data < 50 else Value(50.0)\n\n\ndef gpt("),
        ),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "softmax_not_shifted",
        "The softmax does not subtract the largest number first, and overflows.",
        (("shift = max(logit.data for logit in logits)", "shift = 0.0"),),
        sources=("intel/xFasterTransformer#326", "blue-oil/blueoil#945", "dwavesystems/dwave-optimization#555"),
        place="site layer0.attn.weights",
    ),
    Mutant(
        "wq_transposed",
        "The query weights attn_wq are applied transposed: columns are taken for rows.",
        _transposed("q"),
        in_vectors=True,
        sources=("AutoGPTQ/AutoGPTQ#140",),
        place="site layer0.attn.q",
    ),
    Mutant(
        "wk_transposed",
        "The key weights attn_wk are applied transposed.",
        _transposed("k"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
        place="site layer0.attn.k",
    ),
    Mutant(
        "wv_transposed",
        "The value weights attn_wv are applied transposed.",
        _transposed("v"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
        place="site layer0.attn.v",
    ),
    Mutant(
        "wo_transposed",
        "The output weights attn_wo are applied transposed.",
        _transposed("o"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
        place="site layer0.attn.residual",
    ),
    Mutant(
        "queries_and_keys_swapped",
        "Queries are made with attn_wk and keys with attn_wq.",
        ((f"{_QUERIES}q{_KEYS_MADE}k{_END}", f"{_QUERIES}k{_KEYS_MADE}q{_END}"),),
        place="site layer0.attn.q",
    ),
    Mutant(
        "heads_interleaved",
        "A head takes every n_head-th element of q, k and v instead of head_dim elements in a row.",
        ((_SPLIT, "[x[start :: config.n_head] for start in range(config.n_head)]"),),
        in_vectors=True,
        place="site layer0.attn.scores",
    ),
    Mutant(
        "head_sizes_swapped",
        "There are head_dim heads of size n_head: q, k and v are viewed as (head_dim, n_head).",
        (
            (_SPLIT, _SPLIT.replace("config.head_dim", "config.n_head")),
            ("for j in range(config.head_dim)", "for j in range(config.n_head)"),
        ),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "attention_residual_missing",
        "The residual connection around attention is missing.",
        (('attn_wo"])\n        x = [a + b for a, b in zip(x, residual)]', 'attn_wo"])'),),
        in_vectors=True,
        sources=("kyegomez/BitNet#32",),
        place="site layer0.attn.residual",
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
        in_vectors=True,
        sources=("Howuhh/faster-trajectory-transformer#3", "allenai/OLMo#680", "pytorch/pytorch#61165"),
        place="site layer0.attn.residual",
    ),
    Mutant(
        "scores_multiplied",
        "Attention scores are multiplied by the square root of head_dim instead of divided.",
        ((_SCALING, " * config.head_dim**0.5"),),
        sources=("esceptico/perceiver-io#9", "rasbt/LLMs-from-scratch#856"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "scores_scaled_by_zero",
        "Attention scores are multiplied by a scale of 0 that nobody set, so that every position counts as much.",
        ((_SCALING, " * 0.0"),),
        sources=("SKaiNET-developers/SKaiNET#860",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "keys_and_values_swapped",
        "Keys are made with attn_wv and values with attn_wk.",
        ((f"{_KEYS_AND_VALUES}k{_VALUES_MADE}v{_END}", f"{_KEYS_AND_VALUES}v{_VALUES_MADE}k{_END}"),),
        sources=("jsbaan/transformer-from-scratch#1",),
        place="site layer0.attn.k",
    ),
    Mutant(
        "keys_are_values",
        "Keys are made with attn_wv, too, so that they are the values.",
        ((f"{_KEYS_AND_VALUES}k{_END}", f"{_KEYS_AND_VALUES}v{_END}"),),
        sources=("huggingface/transformers#40253", "huggingface/transformers#40257"),
        place="site layer0.attn.k",
    ),
    Mutant(
        "heads_split_untransposed",
        "Queries, keys and values, viewed as heads by positions, are not transposed before: heads mix up positions.",
        mixing(VIEWED_AS_HEADS, *(f'linear(x, params[f"{{layer}}.attn_w{letter}"])' for letter in "qkv")),
        sources=("reczoo/FuxiCTR#30",),
        place="site layer0.attn.q",
    ),
    Mutant(
        "heads_merged_untransposed",
        "What the heads give is not transposed back before it is viewed as one vector for each position.",
        mixing(VIEWED_AS_POSITIONS, 'tap(f"{layer}.attn.heads", x)'),
        sources=("jsbaan/transformer-from-scratch#6", "hackiey/QAnet-pytorch#2"),
        place="site layer0.attn.residual",
    ),
    Mutant(
        "attention_doubled",
        "What attention gives is added to itself instead of to the residual.",
        (
            (
                'attn_wo"])\n        x = [a + b for a, b in zip(x, residual)]',
                'attn_wo"])\n        x = [a + a for a in x]',
            ),
        ),
        sources=("kyegomez/BitNet#32",),
        place="site layer0.attn.residual",
    ),
    Mutant(
        "softmax_over_queries",
        "The softmax runs over the positions that ask instead of over those that are asked.",
        (*mixing(SOFTMAX_OF_COLUMNS), ("[softmax(row) for row in scores]", "(yield scores)")),
        sources=("nerdai/llms-from-scratch-rs#30",),
        place="site layer0.attn.weights",
    ),
    Mutant(
        "weights_transposed",
        "Attention weights are applied transposed: a position gives what it should take.",
        (
            *mixing(TRANSPOSED, 'tap(f"{layer}.attn.weights", [softmax(row) for row in scores])'),
            ("zip(row, values[i])", "zip(row, values[i][position:])"),
        ),
        sources=("heykeetae/Self-Attention-GAN#11",),
        place="site layer0.attn.heads",
    ),
    Mutant(
        "keys_for_values",
        "Attention weights are applied to the keys instead of to the values.",
        (("zip(row, values[i])", "zip(row, keys[i])"),),
        sources=("microsoft/CNTK#2083",),
        place="site layer0.attn.heads",
    ),
    Mutant(
        "qkv_interleaved",
        "Queries, keys and values, made by one matrix, are taken apart as if they lay head by head.",
        (
            (
                "keys[i].append(split_heads(k, config))",
                f"{_TAKEN_APART}\n        keys[i].append(split_heads(k, config))",
            ),
        ),
        sources=("NVIDIA-NeMo/RL#2802", "awslabs/slapo#46"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "heads_cut",
        "Of every head no more than 2 elements count: its size is fixed, and smaller than it is.",
        (
            (
                _SPLIT,
                "[x[start : start + min(2, config.head_dim)] + [Value(0.0)] * (config.head_dim - 2) "
                "for start in range(0, config.n_embd, config.head_dim)]",
            ),
        ),
        sources=("triton-lang/triton#621",),
        place="site layer0.attn.scores",
    ),
)
