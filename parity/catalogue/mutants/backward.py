"""Mistakes in backward as a whole, and in what is done to gradients before Adam takes them."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_GRADIENTS = "grads = {name: elementwise(gradient, matrix) for name, matrix in params.items()}"
_CLIPPED = f"""{_GRADIENTS}
    norm = sum(g * g for matrix in grads.values() for row in matrix for g in row) ** 0.5
    grads = {{name: elementwise(lambda g: g / max(1.0, norm), matrix) for name, matrix in grads.items()}}"""
_CLIPPED_APART = f"""{_GRADIENTS}
    norms = {{name: sum(g * g for row in matrix for g in row) ** 0.5 for name, matrix in grads.items()}}
    grads = {{name: elementwise(lambda g: g / max(1.0, norms[name]), matrix) for name, matrix in grads.items()}}"""
_SOFTMAX = "return [exp / total for exp in exps]"
SHORT = """def short(x):
    digits, exponent = math.frexp(x)
    return math.ldexp(round(digits * 256), exponent - 8)


"""
"""A function that rounds a float to the eight binary digits of bfloat16, as source."""


def _each(expression: str) -> str:
    """The gradients with an expression in the place of each leaf's, p being the leaf."""
    return _GRADIENTS.replace("elementwise(gradient,", f"elementwise(lambda p: {expression},")


def _softmax_with(derivative: str) -> tuple[tuple[str, str], ...]:
    """Edits that give a probability p its own logit as the only one it depends on, with this derivative."""
    values = "zip(logits, [(exp / total).data for exp in exps])"
    return ((_SOFTMAX, f"return [Value(p, (logit,), ({derivative},)) for logit, p in {values}]"),)


BACKWARD = of_stage(
    "backward",
    Mutant(
        "gradients_overwritten",
        "Where a value is used several times, gradients overwrite each other instead of adding up.",
        (("left.grad +=", "left.grad ="), ("right.grad +=", "right.grad =")),
        sources=("karpathy/nn-zero-to-hero#52", "callummcdougall/ARENA_2.0#18"),
        place="grad lm_head",
    ),
    Mutant(
        "backward_without_order",
        "Backward walks the graph depth first without a topological order, and passes gradients on too early.",
        (
            (
                "order, path, node, children = [], [], self, iter(self.children)",
                "order, path, node, children = [self], [], self, iter(self.children)",
            ),
            ("path.append((node, children))", "path.append((node, children)); order.append(child)"),
            ("order.append(node)", "pass"),
            ("in reversed(order):", "in order:"),
        ),
        sources=("TrenTorch/TrenTorch#182", "port: mauropm/gomicrogpt"),
        place="grad lm_head",
    ),
    Mutant(
        "softmax_total_constant",
        "Backward takes the denominator of the softmax for a constant.",
        (("[exp / total for exp in exps]", "[exp / total.data for exp in exps]"),),
        sources=("HomericIntelligence/Odyssey#2134",),
        place="grad lm_head",
    ),
    Mutant(
        "softmax_gradient_diagonal",
        "Backward of the softmax takes each probability for a function of its own logit alone, as of a sigmoid.",
        _softmax_with("p * (1 - p)"),
        sources=("deeplearning4j/libnd4j#440", "RubixML/ML#438"),
        place="grad lm_head",
    ),
    Mutant(
        "softmax_gradient_passed_on",
        "Backward passes the gradient through the softmax as it is.",
        _softmax_with("1.0"),
        sources=("port: mauropm/gomicrogpt",),
        place="grad lm_head",
    ),
    Mutant(
        "gradients_unscaled",
        "Gradients are divided by a loss scale of 65536 that the loss was never multiplied by.",
        ((_GRADIENTS, _each("gradient(p) / 65536")),),
        sources=("deepspeedai/DeepSpeed#7839",),
        place="grad lm_head",
    ),
    Mutant(
        "gradients_in_bfloat16",
        "Gradients are kept with the eight digits of bfloat16, whatever the weights have.",
        (
            (_GRADIENTS, _each("short(gradient(p))")),
            ("def gradient(", f"{SHORT}def gradient("),
        ),
        sources=("deepspeedai/DeepSpeed#2768", "mlnomadpy/flaxchat#6"),
        rounds_to="bfloat16",
        place="grad lm_head",
    ),
    Mutant(
        "gradients_clipped_by_value",
        "Every element of a gradient is cut off at -1 and 1.",
        ((_GRADIENTS, _each("max(-1.0, min(1.0, gradient(p)))")),),
        sources=("neuroailab/tfutils#115", "Happy-Algorithms-League/hal-cgp#210"),
        place="grad",
    ),
    Mutant(
        "gradient_norm_clipped",
        "Gradients are scaled down where their norm is above 1.",
        ((_GRADIENTS, _CLIPPED),),
        sources=("clab/dynet#1511", "deepspeedai/DeepSpeed#8068"),
        place="grad lm_head",
    ),
    Mutant(
        "gradients_clipped_by_square",
        "Gradients are divided by the square of their norm where it is above 1.",
        ((_GRADIENTS, _CLIPPED.replace(" ** 0.5", "")),),
        sources=("paiml/entrenar#311",),
        place="grad lm_head",
    ),
    Mutant(
        "gradients_clipped_apart",
        "The gradient of each tensor is scaled down where its own norm is above 1.",
        ((_GRADIENTS, _CLIPPED_APART),),
        sources=("huggingface/transformers#614", "carpedm20/MemN2N-tensorflow#19"),
        place="grad",
    ),
)
