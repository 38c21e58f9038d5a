"""Mistakes in what a position attends to: in masks, windows, and the cache of keys and values."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_KEYS = "for k_heads in keys[i]]"
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
_HEADS = 'x = tap(f"{layer}.attn.heads", x)'
_REMADE = """
        keys[i][-1] = split_heads(linear(inputs, params[f"{layer}.attn_wk"]), config)
        values[i][-1] = split_heads(linear(inputs, params[f"{layer}.attn_wv"]), config)"""
_SCORE = "sum(a * b for a, b in zip(q_head, k_heads[h])) / config.head_dim**0.5"


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


MASK = of_stage(
    "attention",
    Mutant(
        "current_position_hidden",
        "A position attends only to the positions before it, not to itself: the causal mask is off by one.",
        ((_KEYS, "for k_heads in keys[i][:-1] or keys[i]]"),),
        in_vectors=True,
        sources=("pbloem/former#6", "pbloem/former#10"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "future_visible",
        "A position attends to all positions of the document: there is no causal mask.",
        ((_CACHES, _CACHES + _FILLED),),
        sources=("keras-team/keras#23038", "paiml/entrenar#310", "huggingface/transformers#48745"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "next_position_visible",
        "A position attends to the next one, too: the causal mask is off by one.",
        ((_CACHES, _CACHES + _FILLED), (_KEYS, "for k_heads in keys[i][: position + 2]]")),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_of_minus_100",
        "Scores of later positions are lowered by 100 instead of to minus infinity, so that large ones shine through.",
        _masked_by(100),
        sources=("pals-ttic/adapting-CLIP#4",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_of_minus_10000",
        "Scores of later positions are lowered by 10,000 instead of to minus infinity, so that larger ones shine "
        "through.",
        _masked_by(10_000),
        sources=("TransformerLensOrg/TransformerLens#318",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "window_of_4",
        "A position attends to the last 4 positions only.",
        _window("4"),
        sources=("huggingface/transformers#38002", "InternLM/lmdeploy#3614"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "window_of_12",
        "A position attends to the last 12 positions only.",
        _window("12"),
        sources=("huggingface/transformers#38002", "InternLM/lmdeploy#3614"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "window_one_short",
        "A position attends to the last block_size - 1 positions only: the window is off by one.",
        _window("max(1, config.block_size - 1)"),
        sources=("huggingface/transformers#39408", "NVIDIA-NeMo/Megatron-Bridge#2656"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_inverted",
        "A position attends to those after it only: the causal mask is inverted.",
        (
            (_CACHES, _CACHES + _FILLED),
            (_KEYS, "for k_heads in keys[i][position + 1 :] or keys[i][-1:]]"),
            ("zip(row, values[i])", "zip(row, values[i][-len(row) :])"),
        ),
        sources=("rasbt/LLMs-from-scratch#1062",),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_of_almost_zero",
        "Scores of later positions are set to -1e-9, a slip for -1e9, which hides nothing.",
        (
            (_CACHES, _CACHES + _FILLED),
            (_SCORE, f"({_SCORE} if t <= position else Value(-1e-9))"),
            (_KEYS, "for t, k_heads in enumerate(keys[i])]"),
        ),
        sources=("awslabs/gluonts#1401", "Shujun-He/RibonanzaNet#5"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_after_softmax",
        "Later positions are hidden after the softmax, of which they have taken their part.",
        (
            (_CACHES, _CACHES + _FILLED),
            ("[softmax(row) for row in scores]", "[softmax(row)[: position + 1] for row in scores]"),
        ),
        sources=("lucidrains/memory-compressed-attention#2", "huggingface/pytorch-image-models#2236"),
        place="site layer0.attn.scores",
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
        sources=("unslothai/unsloth-zoo#813", "unslothai/unsloth-zoo#1275"),
        place="grad attn_wv",
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
        place="grad attn_wv",
    ),
    Mutant(
        "keys_detached",
        "No gradient flows through the keys.",
        (("def gpt(", _DETACHED), (_KEYS, "for k_heads in detached(keys[i])]")),
        sources=("paiml/aprender#2203",),
        place="grad attn_wk",
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
        place="site layer1.attn.scores",
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
        place="site layer0.attn.scores",
    ),
    Mutant(
        "mask_at_top_left",
        "A position attends to the first one only: a causal mask for one query starts at the top left of the cache.",
        ((_KEYS, "for k_heads in keys[i][:1]]"),),
        sources=("pytorch/pytorch#144858", "Dao-AILab/flash-attention#282", "EleutherAI/gpt-neox#1178"),
        place="site layer0.attn.scores",
    ),
    Mutant(
        "earlier_inputs_detached",
        "The gradient through keys and values of earlier positions stops at attn_wk and attn_wv.",
        (
            ('q = tap(f"{layer}.attn.q"', 'inputs = [Value(a.data) for a in x]\n        q = tap(f"{layer}.attn.q"'),
            (_HEADS, _HEADS + _REMADE),
        ),
        sources=("port: loretoparisi/microgpt.c",),
        place="grad wpe",
    ),
)
