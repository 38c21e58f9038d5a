"""Mistakes in the norm."""

from parity.catalogue.mutants.mutant import Mutant, of_stage
from parity.catalogue.mutants.together import NORMALISED_TOGETHER, mixing

_EMBEDDED = """[a + b for a, b in zip(params["wte"][token], params["wpe"][position])]"""
_MEAN_SQUARE = "sum(a * a for a in x) / len(x)"
_SCALE = "scale = (mean_square + 1e-5) ** -0.5"
_ATTENTION_NORM = 'x = tap(f"{layer}.attn.norm", rmsnorm(x))'
_MLP_NORM = 'x = tap(f"{layer}.mlp.norm", rmsnorm(x))'
_AS_IF_NORMALISED = "residual = [Value(a.data, (b,), (1.0,)) for a, b in zip(residual, x)]"


def _divided(by: str) -> tuple[tuple[str, str], ...]:
    """Edits that have every norm divide the sum of squares by a number."""
    return (
        ('tap("norm", rmsnorm(x))', f'tap("norm", rmsnorm(x, {by}))'),
        ('attn.norm", rmsnorm(x))', f'attn.norm", rmsnorm(x, {by}))'),
        ('mlp.norm", rmsnorm(x))', f'mlp.norm", rmsnorm(x, {by}))'),
        ("def rmsnorm(x):", "def rmsnorm(x, size):"),
        (_MEAN_SQUARE, "sum(a * a for a in x) / size"),
    )


NORM = of_stage(
    "norm",
    Mutant(
        "first_norm_missing",
        "The embeddings are not normalised before the first layer.",
        (('tap("norm", rmsnorm(x))', 'tap("norm", x)'),),
        in_vectors=True,
        sources=("deepspeedai/DeepSpeedExamples#67",),
        place="site norm",
    ),
    Mutant(
        "attention_norm_missing",
        "Attention takes what it is given without a norm.",
        (('attn.norm", rmsnorm(x))', 'attn.norm", x)'),),
        sources=("agentdr1/LA_MIL#3",),
        place="site layer0.attn.norm",
    ),
    Mutant(
        "mlp_norm_missing",
        "The MLP takes what it is given without a norm.",
        (('mlp.norm", rmsnorm(x))', 'mlp.norm", x)'),),
        sources=("agentdr1/LA_MIL#3", "huggingface/pytorch-image-models#1851"),
        place="site layer0.mlp.norm",
    ),
    Mutant(
        "norm_without_eps",
        "The norm does not add 1e-5 to the mean square.",
        (("(mean_square + 1e-5)", "mean_square"),),
        in_vectors=True,
        sources=("tenstorrent/tt-metal#55347", "microsoft/onnxruntime#10228"),
        place="site norm",
    ),
    Mutant(
        "norm_eps_smaller",
        "The norm adds 1e-8 to the mean square instead of 1e-5.",
        (("1e-5", "1e-8"),),
        sources=("port: MeKo-Christian/go-microgpt",),
        place="site norm",
    ),
    Mutant(
        "norm_eps_slightly_smaller",
        "The norm adds 1e-6 to the mean square instead of 1e-5.",
        (("1e-5", "1e-6"),),
        sources=("apache/tvm#15856", "NVIDIA/cutlass#1112", "foundation-model-stack/foundation-model-stack#99"),
        place="site norm",
    ),
    Mutant(
        "norm_eps_outside_root",
        "The norm adds 1e-5 to the root of the mean square instead of to the mean square.",
        ((_SCALE, "scale = (mean_square**0.5 + 1e-5) ** -1"),),
        sources=("allenai/OLMo#281", "tile-ai/tilelang#1243", "EleutherAI/gpt-neox#1342"),
        place="site norm",
    ),
    Mutant(
        "norm_eps_as_least",
        "The norm takes 1e-5 for the least mean square instead of adding it.",
        ((_SCALE, "scale = (mean_square if mean_square.data > 1e-5 else Value(1e-5)) ** -0.5"),),
        place="site norm",
    ),
    Mutant(
        "norm_subtracts_mean",
        "The norm subtracts the mean first: it is LayerNorm instead of RMSNorm.",
        (("    mean_square = ", "    mean = sum(x) / len(x)\n    x = [a - mean for a in x]\n    mean_square = "),),
        in_vectors=True,
        sources=("port: lubos374/microgpt-lean",),
        place="site norm",
    ),
    Mutant(
        "norm_of_sample",
        "The norm divides the sum of squares by one less than the number of elements.",
        ((_MEAN_SQUARE, "sum(a * a for a in x) / max(1, len(x) - 1)"),),
        sources=("harvardnlp/annotated-transformer#119", "allenai/allennlp#953", "FluxML/Flux.jl#529"),
        place="site norm",
    ),
    Mutant(
        "norm_divided_by_block_size",
        "The norm divides the sum of squares by block_size instead of n_embd.",
        _divided("config.block_size"),
        place="site norm",
    ),
    Mutant(
        "norm_divided_by_16",
        "The norm divides the sum of squares by 16, the default n_embd.",
        ((_MEAN_SQUARE, "sum(a * a for a in x) / 16"),),
        sources=("hw-native-sys/pypto-lib#117",),
        place="site norm",
    ),
    Mutant(
        "norm_scale_constant",
        "Backward takes the scale of the norm for a constant: no gradient flows through the mean square.",
        (("[a * scale for a in x]", "[a * scale.data for a in x]"),),
        in_vectors=True,
        sources=("ooples/AiDotNet#695", "port: joelsearcy/microgpt-go", "port: ani03sha/microgpt-java"),
        place="grad attn_wo",
    ),
    Mutant(
        "norm_backward_squared",
        "Backward of the norm has the square of the root mean square where its cube belongs.",
        ((_SCALE, f"{_SCALE}\n    scale.local_grads = (-0.5 / scale.children[0].data,)"),),
        sources=("port: enjector/microgpt-c",),
        place="grad attn_wo",
    ),
    Mutant(
        "norm_before_positions",
        "Position embeddings are added after the first norm instead of before it.",
        (
            (_EMBEDDED, _EMBEDDED.replace('params["wte"][token]', 'rmsnorm(params["wte"][token])')),
            ('tap("norm", rmsnorm(x))', 'tap("norm", x)'),
        ),
        sources=("huggingface/transformers#11046",),
        place="site embedding",
    ),
    Mutant(
        "norm_twice",
        "The first norm is applied twice.",
        (('tap("norm", rmsnorm(x))', 'tap("norm", rmsnorm(rmsnorm(x)))'),),
        sources=("ggml-org/llama.cpp#1925",),
        place="site norm",
    ),
    Mutant(
        "norm_inverted",
        "The norm divides by one over the root mean square instead of multiplying by it.",
        (("[a * scale for a in x]", "[a / scale for a in x]"),),
        sources=("mosaicml/llm-foundry#372",),
        place="site norm",
    ),
    Mutant(
        "norm_squares_instead_of_root",
        "The norm divides by the square of the mean square instead of by its root.",
        ((_SCALE, _SCALE.replace("-0.5", "-2")),),
        sources=("131250208/TPlinker-joint-extraction#37",),
        place="site norm",
    ),
    Mutant(
        "norm_eps_scaled",
        "The norm's eps is multiplied by the square of the largest number, by which the numbers were divided before.",
        ((_SCALE, _SCALE.replace("1e-5", "1e-5 * max(abs(a.data) for a in x) ** 2")),),
        sources=("apple/coremltools#2822",),
        place="site norm",
    ),
    Mutant(
        "norm_of_document",
        "The norm takes the mean square of all positions together.",
        (
            *mixing(NORMALISED_TOGETHER),
            ('tap("norm", rmsnorm(x))', 'tap("norm", (yield x))'),
            ('attn.norm", rmsnorm(x))', 'attn.norm", (yield x))'),
            ('mlp.norm", rmsnorm(x))', 'mlp.norm", (yield x))'),
        ),
        sources=("bkitano/llama-from-scratch#4", "reczoo/FuxiCTR#23"),
        place="site norm",
    ),
    Mutant(
        "keys_and_values_not_normed",
        "Attention makes keys and values of what it is given without a norm, and queries of what is normalised.",
        (('attn.k", linear(x', 'attn.k", linear(residual'), ('attn.v", linear(x', 'attn.v", linear(residual')),
        sources=("facebookresearch/xformers#233",),
        place="site layer0.attn.k",
    ),
    Mutant(
        "residual_gradient_through_norm",
        "Backward takes the gradient of residual connections through the norm, too, instead of past it.",
        tuple((norm, f"{norm}\n        {_AS_IF_NORMALISED}") for norm in (_ATTENTION_NORM, _MLP_NORM)),
        sources=("Dao-AILab/quack#53",),
        place="grad attn_wo",
    ),
    Mutant(
        "norm_factor_inverted",
        "The norm multiplies by one over the root of n_embd, having divided by the root of the sum, not by that root.",
        (("[a * scale for a in x]", "[a * scale / len(x) for a in x]"),),
        sources=("kyegomez/zeta#180",),
        place="site norm",
    ),
)
