"""Mistakes in attention and in its cache of keys and values."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_SPLIT = "[x[start : start + config.head_dim] for start in range(0, config.n_embd, config.head_dim)]"
_SCALING = " / config.head_dim**0.5"
_KEYS = "for k_heads in keys[i]]"
_SCORE = "sum(a * b for a, b in zip(q_head, k_heads[h])) / config.head_dim**0.5"
_QUERIES = 'q", linear(x, params[f"{layer}.attn_w'
_KEYS_MADE = """"]))
        k = tap(f"{layer}.attn.k", linear(x, params[f"{layer}.attn_w"""
_END = '"]))'
_CACHES = """    keys = [[] for _ in range(config.n_layer)]
    values = [[] for _ in range(config.n_layer)]
    logits, losses = [], []
"""
_FILLED = """    for position in range(n):
        gpt(tokens[position], position, keys, values, params, config)
    Filled = type("Filled", (list,), {"append": lambda self, entry: None})
    keys, values = [Filled(layer) for layer in keys], [Filled(layer) for layer in values]
"""
_DETACHED = """def detached(cache, last=0):
    kept = len(cache) - last
    return [[[Value(a.data) for a in head] for head in heads] for heads in cache[:kept]] + cache[kept:]


def gpt("""
_SHARED = """keys = [[] for _ in range(config.n_layer)]
    values = [[] for _ in range(config.n_layer)]
    results = [document_loss(tokens, params, config, tap, keys, values) for tokens in batch]"""


def _window(length: str) -> tuple[tuple[str, str], ...]:
    """Edits that have a position attend to so many positions at most, the last ones."""
    return (
        (_KEYS, f"for k_heads in keys[i][-({length}) :]]"),
        ("zip(row, values[i])", "zip(row, values[i][-len(row) :])"),
    )


def _masked_by(amount: int) -> tuple[tuple[str, str], ...]:
    """Edits that lower the scores of later positions, which a document computes all at once, by so much."""
    return (
        (_CACHES, _CACHES + _FILLED),
        (_SCORE, f"{_SCORE} - {amount} * (t > position)"),
        (_KEYS, "for t, k_heads in enumerate(keys[i])]"),
    )


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
    ),
    Mutant(
        "scores_scaled_by_n_embd",
        "Attention scores are divided by the square root of n_embd instead of head_dim.",
        ((_SCALING, " / config.n_embd**0.5"),),
        in_vectors=True,
        sources=("karpathy/ng-video-lecture#6", "lucidrains/vit-pytorch#65", "FareedKhan-dev/train-llm-from-scratch#3"),
    ),
    Mutant(
        "scores_scaled_by_n_head",
        "Attention scores are divided by the square root of n_head instead of head_dim.",
        ((_SCALING, " / config.n_head**0.5"),),
        sources=("tenstorrent/tt-metal#56789",),
    ),
    Mutant(
        "scores_scaled_by_head_dim",
        "Attention scores are divided by head_dim instead of its square root.",
        ((_SCALING, " / config.head_dim"),),
        sources=("delzac/cntkx#10",),
    ),
    Mutant(
        "scores_halved", "Attention scores are divided by 2, which is right for heads of size 4.", ((_SCALING, " / 2"),)
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
    ),
    Mutant(
        "score_gradient_not_scaled",
        "Backward forgets that attention scores were divided by the square root of head_dim.",
        (
            (_SCORE, f"times({_SCORE.removesuffix(_SCALING)}, config.head_dim**-0.5)"),
            ("def gpt(", "def times(x, factor):\n    return Value(x.data * factor, (x,), (1.0,))\n\n\ndef gpt("),
        ),
    ),
    Mutant(
        "scores_capped",
        "Attention scores are cut off at 50, and so is their gradient.",
        (
            (_SCORE, f"capped({_SCORE})"),
            ("def gpt(", "def capped(x):\n    return x if x.data < 50 else Value(50.0)\n\n\ndef gpt("),
        ),
    ),
    Mutant(
        "softmax_not_shifted",
        "The softmax does not subtract the largest number first, and overflows.",
        (("shift = max(logit.data for logit in logits)", "shift = 0.0"),),
        sources=("intel/xFasterTransformer#326", "blue-oil/blueoil#945", "dwavesystems/dwave-optimization#555"),
    ),
    Mutant(
        "wq_transposed",
        "The query weights attn_wq are applied transposed: columns are taken for rows.",
        _transposed("q"),
        in_vectors=True,
        sources=("AutoGPTQ/AutoGPTQ#140",),
    ),
    Mutant(
        "wk_transposed",
        "The key weights attn_wk are applied transposed.",
        _transposed("k"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
    ),
    Mutant(
        "wv_transposed",
        "The value weights attn_wv are applied transposed.",
        _transposed("v"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
    ),
    Mutant(
        "wo_transposed",
        "The output weights attn_wo are applied transposed.",
        _transposed("o"),
        sources=("AutoGPTQ/AutoGPTQ#140",),
    ),
    Mutant(
        "queries_and_keys_swapped",
        "Queries are made with attn_wk and keys with attn_wq.",
        ((f"{_QUERIES}q{_KEYS_MADE}k{_END}", f"{_QUERIES}k{_KEYS_MADE}q{_END}"),),
    ),
    Mutant(
        "heads_interleaved",
        "A head takes every n_head-th element of q, k and v instead of head_dim elements in a row.",
        ((_SPLIT, "[x[start :: config.n_head] for start in range(config.n_head)]"),),
        in_vectors=True,
    ),
    Mutant(
        "head_sizes_swapped",
        "There are head_dim heads of size n_head: q, k and v are viewed as (head_dim, n_head).",
        (
            (_SPLIT, _SPLIT.replace("config.head_dim", "config.n_head")),
            ("for j in range(config.head_dim)", "for j in range(config.n_head)"),
        ),
    ),
    Mutant(
        "current_position_hidden",
        "A position attends only to the positions before it, not to itself: the causal mask is off by one.",
        ((_KEYS, "for k_heads in keys[i][:-1] or keys[i]]"),),
        in_vectors=True,
        sources=("pbloem/former#6", "pbloem/former#10"),
    ),
    Mutant(
        "future_visible",
        "A position attends to all positions of the document: there is no causal mask.",
        ((_CACHES, _CACHES + _FILLED),),
        sources=("keras-team/keras#23038", "paiml/entrenar#310", "huggingface/transformers#48745"),
    ),
    Mutant(
        "next_position_visible",
        "A position attends to the next one, too: the causal mask is off by one.",
        ((_CACHES, _CACHES + _FILLED), (_KEYS, "for k_heads in keys[i][: position + 2]]")),
    ),
    Mutant(
        "mask_of_minus_100",
        "Scores of later positions are lowered by 100 instead of to minus infinity, so that large ones shine through.",
        _masked_by(100),
    ),
    Mutant(
        "mask_of_minus_10000",
        "Scores of later positions are lowered by 10,000 instead of to minus infinity, so that larger ones shine "
        "through.",
        _masked_by(10_000),
        sources=("TransformerLensOrg/TransformerLens#318",),
    ),
    Mutant(
        "window_of_4",
        "A position attends to the last 4 positions only.",
        _window("4"),
        sources=("huggingface/transformers#38002", "InternLM/lmdeploy#3614"),
    ),
    Mutant(
        "window_of_12",
        "A position attends to the last 12 positions only.",
        _window("12"),
        sources=("huggingface/transformers#38002", "InternLM/lmdeploy#3614"),
    ),
    Mutant(
        "window_one_short",
        "A position attends to the last block_size - 1 positions only: the window is off by one.",
        _window("max(1, config.block_size - 1)"),
        sources=("huggingface/transformers#39408", "NVIDIA-NeMo/Megatron-Bridge#2656"),
    ),
    Mutant(
        "attention_residual_missing",
        "The residual connection around attention is missing.",
        (('attn_wo"])\n        x = [a + b for a, b in zip(x, residual)]', 'attn_wo"])'),),
        in_vectors=True,
        sources=("kyegomez/BitNet#32",),
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
    ),
)

CACHE = of_stage(
    "cache",
    Mutant(
        "cache_detached",
        "No gradient flows through the keys and values of earlier positions and of this one: the cache is detached.",
        (
            ("split_heads(k, config)", "split_heads([Value(a.data) for a in k], config)"),
            ("split_heads(v, config)", "split_heads([Value(a.data) for a in v], config)"),
        ),
        in_vectors=True,
    ),
    Mutant(
        "earlier_positions_detached",
        "No gradient flows through the keys and values of earlier positions.",
        (
            ("def gpt(", _DETACHED),
            (_KEYS, "for k_heads in detached(keys[i], 1)]"),
            ("zip(row, values[i])", "zip(row, detached(values[i], 1))"),
        ),
        sources=("port: enjector/microgpt-c",),
    ),
    Mutant(
        "keys_detached",
        "No gradient flows through the keys.",
        (("def gpt(", _DETACHED), (_KEYS, "for k_heads in detached(keys[i])]")),
    ),
    Mutant(
        "cache_shared_by_layers",
        "All layers share one cache: it was made as [[]] * n_layer.",
        (
            (
                _CACHES,
                _CACHES.replace("[[] for _ in range(config.n_layer)]", "[[]] * config.n_layer"),
            ),
        ),
    ),
    Mutant(
        "cache_kept_between_documents",
        "The cache is not emptied between the documents of a batch, which see each other.",
        (
            (_CACHES, "    logits, losses = [], []\n"),
            (
                "def document_loss(tokens: Sequence[int], params, config: Config, tap=no_tap):",
                "def document_loss(tokens: Sequence[int], params, config: Config, tap, keys, values):",
            ),
            ("results = [document_loss(tokens, params, config, tap) for tokens in batch]", _SHARED),
        ),
        sources=("DeepOpt-com/WrinkleFree-Monorepo#53", "deepspeedai/DeepSpeed#2669", "huggingface/nanoVLM#204"),
    ),
)
