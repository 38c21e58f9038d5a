"""Mistakes in the embeddings."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_FRESH_ROW = """def fresh_row(matrix, token):
    matrix[token] = [Value(a.data) for a in matrix[token]]
    return matrix[token]


def gpt("""
_EMBEDDED = """[a + b for a, b in zip(params["wte"][token], params["wpe"][position])]"""
_RESULTS = "results = [document_loss(tokens, params, config, tap) for tokens in batch]"
_RESULTS_RUNNING_ON = """starts = [0]
    for tokens in batch:
        starts.append(starts[-1] + min(config.block_size, len(tokens) - 1))
    results = [document_loss(tokens, params, config, tap, start) for tokens, start in zip(batch, starts)]"""

EMBEDDING = of_stage(
    "embedding",
    Mutant(
        "positions_from_one",
        "Position embeddings are one row too far: positions are counted from 1.",
        (('params["wpe"][position]', 'params["wpe"][(position + 1) % config.block_size]'),),
        in_vectors=True,
        sources=("PrimeIntellect-ai/prime-rl#1545",),
        place="site embedding",
    ),
    Mutant(
        "positions_missing",
        "Position embeddings are not added.",
        ((_EMBEDDED, 'list(params["wte"][token])'),),
        sources=("ml-explore/mlx-lm#93",),
        place="site embedding",
    ),
    Mutant(
        "positions_not_trained",
        "Position embeddings get no gradient, as if they were fixed.",
        (('params["wpe"][position])', '[Value(b.data) for b in params["wpe"][position]])'),),
        sources=("d2l-ai/d2l-en#2121",),
        place="grad wpe",
    ),
    Mutant(
        "token_zero_not_trained",
        "Token 0 is taken for padding, whose embedding gets no gradient.",
        (
            (
                'zip(params["wte"][token]',
                'zip(params["wte"][token] if token else [Value(a.data) for a in params["wte"][0]]',
            ),
        ),
        sources=("ibalazevic/TuckER#17",),
        place="grad wte",
    ),
    Mutant(
        "tokens_scaled_by_root_n_embd",
        "Token embeddings are multiplied by the square root of n_embd, as in the first Transformer.",
        ((_EMBEDDED, _EMBEDDED.replace("[a +", "[config.n_embd**0.5 * a +")),),
        sources=("TensorAuto/OpenTau#179", "d2l-ai/d2l-en#2661"),
        place="site embedding",
    ),
    Mutant(
        "embeddings_scaled",
        "The sum of both embeddings is multiplied by the square root of n_embd, which the norm nearly undoes.",
        ((_EMBEDDED, _EMBEDDED.replace("[a + b", "[config.n_embd**0.5 * (a + b)")),),
        place="site embedding",
    ),
    Mutant(
        "repeated_token_overwritten",
        "Gradients of a token that occurs repeatedly are overwritten by those of its last occurrence, not added up.",
        (("def gpt(", _FRESH_ROW), ('params["wte"][token]', 'fresh_row(params["wte"], token)')),
        in_vectors=True,
        sources=("pymc-devs/pytensor#2242", "tenstorrent/tt-metal#6232"),
        place="grad wte",
    ),
    Mutant(
        "position_zero_not_trained",
        "Position 0 is taken for padding, whose embedding gets no gradient.",
        (
            (
                'params["wpe"][position])',
                'params["wpe"][position] if position else [Value(b.data) for b in params["wpe"][0]])',
            ),
        ),
        sources=("huggingface/transformers#409",),
        place="grad wpe",
    ),
    Mutant(
        "positions_all_zero",
        "Every position takes the embedding of position 0, as a token that comes alone seems to be the first.",
        (('params["wpe"][position]', 'params["wpe"][0]'),),
        sources=("ml-explore/mlx-lm#93",),
        place="site embedding",
    ),
    Mutant(
        "positions_from_n_head",
        "Positions after the first one are n_head: the cache's length is read from the wrong dimension.",
        (('params["wpe"][position]', 'params["wpe"][config.n_head % config.block_size if position else 0]'),),
        sources=("dmlc/gluon-nlp#1015",),
        place="site embedding",
    ),
    Mutant(
        "positions_run_on",
        "Positions run on from document to document of a batch instead of starting at 0.",
        (
            (
                'config: Config, tap=no_tap):\n    """The mean of -log',
                'config: Config, tap, start):\n    """The mean of -log',
            ),
            ("gpt(tokens[position], position", "gpt(tokens[position], (start + position) % config.block_size"),
            (_RESULTS, _RESULTS_RUNNING_ON),
        ),
        sources=("huggingface/nanoVLM#204",),
        place="site embedding",
    ),
    Mutant(
        "positions_scaled",
        "Position embeddings are divided by the square root of n_embd.",
        ((_EMBEDDED, _EMBEDDED.replace("[a + b", "[a + b / config.n_embd**0.5")),),
        sources=("nicklashansen/dreamer4#4",),
        place="site embedding",
    ),
)
