"""Mistakes in the embeddings and in the norm."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_FRESH_ROW = """def fresh_row(matrix, token):
    matrix[token] = [Value(a.data) for a in matrix[token]]
    return matrix[token]


def gpt("""
_EMBEDDED = """[a + b for a, b in zip(params["wte"][token], params["wpe"][position])]"""
_MEAN_SQUARE = "sum(a * a for a in x) / len(x)"
_SCALE = "scale = (mean_square + 1e-5) ** -0.5"
_BY_BLOCK_SIZE = "rmsnorm(x, config.block_size))"


def _divided(by: str) -> tuple[tuple[str, str], ...]:
    """Edits that have every norm divide the sum of squares by a number."""
    return (
        ('tap("norm", rmsnorm(x))', f'tap("norm", rmsnorm(x, {by}))'),
        ('attn.norm", rmsnorm(x))', f'attn.norm", rmsnorm(x, {by}))'),
        ('mlp.norm", rmsnorm(x))', f'mlp.norm", rmsnorm(x, {by}))'),
        ("def rmsnorm(x):", "def rmsnorm(x, size):"),
        (_MEAN_SQUARE, "sum(a * a for a in x) / size"),
    )


EMBEDDING = of_stage(
    "embedding",
    Mutant(
        "positions_from_one",
        "Position embeddings are one row too far: positions are counted from 1.",
        (('params["wpe"][position]', 'params["wpe"][(position + 1) % config.block_size]'),),
        in_vectors=True,
        sources=("PrimeIntellect-ai/prime-rl#1545",),
    ),
    Mutant(
        "positions_missing",
        "Position embeddings are not added.",
        ((_EMBEDDED, 'list(params["wte"][token])'),),
        sources=("ml-explore/mlx-lm#93",),
    ),
    Mutant(
        "positions_not_trained",
        "Position embeddings get no gradient, as if they were fixed.",
        (('params["wpe"][position])', '[Value(b.data) for b in params["wpe"][position]])'),),
        sources=("d2l-ai/d2l-en#2121",),
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
    ),
    Mutant(
        "tokens_scaled_by_root_n_embd",
        "Token embeddings are multiplied by the square root of n_embd, as in the first Transformer.",
        ((_EMBEDDED, _EMBEDDED.replace("[a +", "[config.n_embd**0.5 * a +")),),
        sources=("TensorAuto/OpenTau#179", "d2l-ai/d2l-en#2661"),
    ),
    Mutant(
        "embeddings_scaled",
        "The sum of both embeddings is multiplied by the square root of n_embd, which the norm nearly undoes.",
        ((_EMBEDDED, _EMBEDDED.replace("[a + b", "[config.n_embd**0.5 * (a + b)")),),
    ),
    Mutant(
        "repeated_token_overwritten",
        "Gradients of a token that occurs repeatedly are overwritten by those of its last occurrence, not added up.",
        (("def gpt(", _FRESH_ROW), ('params["wte"][token]', 'fresh_row(params["wte"], token)')),
        in_vectors=True,
        sources=("pymc-devs/pytensor#2242", "tenstorrent/tt-metal#6232"),
    ),
)

NORM = of_stage(
    "norm",
    Mutant(
        "first_norm_missing",
        "The embeddings are not normalised before the first layer.",
        (('tap("norm", rmsnorm(x))', 'tap("norm", x)'),),
        in_vectors=True,
        sources=("deepspeedai/DeepSpeedExamples#67",),
    ),
    Mutant(
        "attention_norm_missing",
        "Attention takes what it is given without a norm.",
        (('attn.norm", rmsnorm(x))', 'attn.norm", x)'),),
        sources=("agentdr1/LA_MIL#3",),
    ),
    Mutant(
        "mlp_norm_missing",
        "The MLP takes what it is given without a norm.",
        (('mlp.norm", rmsnorm(x))', 'mlp.norm", x)'),),
        sources=("agentdr1/LA_MIL#3", "huggingface/pytorch-image-models#1851"),
    ),
    Mutant(
        "norm_without_eps",
        "The norm does not add 1e-5 to the mean square.",
        (("(mean_square + 1e-5)", "mean_square"),),
        in_vectors=True,
        sources=("tenstorrent/tt-metal#55347", "microsoft/onnxruntime#10228"),
    ),
    Mutant(
        "norm_eps_smaller",
        "The norm adds 1e-8 to the mean square instead of 1e-5.",
        (("1e-5", "1e-8"),),
        sources=("port: MeKo-Christian/go-microgpt",),
    ),
    Mutant(
        "norm_eps_slightly_smaller",
        "The norm adds 1e-6 to the mean square instead of 1e-5.",
        (("1e-5", "1e-6"),),
        sources=("apache/tvm#15856", "NVIDIA/cutlass#1112", "foundation-model-stack/foundation-model-stack#99"),
    ),
    Mutant(
        "norm_eps_outside_root",
        "The norm adds 1e-5 to the root of the mean square instead of to the mean square.",
        ((_SCALE, "scale = (mean_square**0.5 + 1e-5) ** -1"),),
        sources=("allenai/OLMo#281", "tile-ai/tilelang#1243", "EleutherAI/gpt-neox#1342"),
    ),
    Mutant(
        "norm_eps_as_least",
        "The norm takes 1e-5 for the least mean square instead of adding it.",
        ((_SCALE, "scale = (mean_square if mean_square.data > 1e-5 else Value(1e-5)) ** -0.5"),),
    ),
    Mutant(
        "norm_subtracts_mean",
        "The norm subtracts the mean first: it is LayerNorm instead of RMSNorm.",
        (("    mean_square = ", "    mean = sum(x) / len(x)\n    x = [a - mean for a in x]\n    mean_square = "),),
        in_vectors=True,
        sources=("port: lubos374/microgpt-lean",),
    ),
    Mutant(
        "norm_of_sample",
        "The norm divides the sum of squares by one less than the number of elements.",
        ((_MEAN_SQUARE, "sum(a * a for a in x) / max(1, len(x) - 1)"),),
        sources=("harvardnlp/annotated-transformer#119", "allenai/allennlp#953", "FluxML/Flux.jl#529"),
    ),
    Mutant(
        "norm_divided_by_block_size",
        "The norm divides the sum of squares by block_size instead of n_embd.",
        _divided("config.block_size"),
    ),
    Mutant(
        "norm_divided_by_16",
        "The norm divides the sum of squares by 16, the default n_embd.",
        ((_MEAN_SQUARE, "sum(a * a for a in x) / 16"),),
    ),
    Mutant(
        "norm_scale_constant",
        "Backward takes the scale of the norm for a constant: no gradient flows through the mean square.",
        (("[a * scale for a in x]", "[a * scale.data for a in x]"),),
        in_vectors=True,
        sources=("ooples/AiDotNet#695", "port: joelsearcy/microgpt-go", "port: ani03sha/microgpt-java"),
    ),
    Mutant(
        "norm_backward_squared",
        "Backward of the norm has the square of the root mean square where its cube belongs.",
        ((_SCALE, f"{_SCALE}\n    scale.local_grads = (-0.5 / scale.children[0].data,)"),),
        sources=("port: enjector/microgpt-c",),
    ),
)
