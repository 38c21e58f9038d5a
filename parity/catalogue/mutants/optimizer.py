"""Mistakes in Adam's moments and in their bias correction."""

from parity.catalogue.mutants.backward import SHORT
from parity.catalogue.mutants.mutant import Mutant, of_stage

_FIRST_MOMENT = "hyper.beta1 * m + (1 - hyper.beta1) * g"
_SECOND_MOMENT = "hyper.beta2 * v + (1 - hyper.beta2) * g**2"
_M_CORRECTION = "1 - hyper.beta1 ** (state.step + 1)"
_V_CORRECTION = "1 - hyper.beta2 ** (state.step + 1)"
RATE = "rate = learning_rate(state.step, hyper)"
ROOT = "(v**0.5 + hyper.eps_adam)"
_ADAM = "def adam("
_SHORT_BETAS = "beta1=short(hyper.beta1), beta2=short(hyper.beta2)"


def _hyper(**values: float) -> tuple[tuple[str, str], ...]:
    """Edits that have Adam take these hyper-parameters, whatever it was given."""
    given = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return ((RATE, f"from dataclasses import replace\n    {RATE}\n    hyper = replace(hyper, {given})"),)


ADAM = of_stage(
    "Adam",
    Mutant(
        "eps_inside_root",
        "Adam adds eps inside the square root instead of to the root.",
        ((ROOT, "(v + hyper.eps_adam) ** 0.5"),),
        in_vectors=True,
        sources=("FluxML/Flux.jl#448", "kozistr/pytorch_optimizer#397"),
        place="param",
    ),
    Mutant("eps_missing", "Adam does not add eps to the root.", ((ROOT, "(v**0.5 or 1.0)"),), place="param"),
    Mutant(
        "eps_hard_coded",
        "Adam's eps is 1e-8, whatever was asked for.",
        _hyper(eps_adam=1e-8),
        sources=("LaurentMazare/ocaml-torch#54", "facebookresearch/pytext#858"),
        place="param",
    ),
    Mutant(
        "eps_before_correction",
        "Adam adds eps before the second moment is bias-corrected, so that the correction scales it.",
        ((ROOT, "(v**0.5 + hyper.eps_adam / v_correction**0.5)"),),
        sources=("karpathy/nanochat#304", "pytorch/pytorch#22628", "tensorflow/tensorflow#35102"),
        place="param",
    ),
    Mutant(
        "betas_hard_coded",
        "Adam's betas are 0.85 and 0.99, whatever was asked for.",
        _hyper(beta1=0.85, beta2=0.99),
        sources=("OpenNMT/OpenNMT-py#386", "port: thdtjsdn/microgpt.js"),
        place="m",
    ),
    Mutant(
        "betas_of_pytorch",
        "Adam's betas are 0.9 and 0.999, PyTorch's defaults.",
        _hyper(beta1=0.9, beta2=0.999),
        sources=("AI-Hypercomputer/maxtext#17",),
        place="m",
    ),
    Mutant(
        "betas_swapped",
        "Adam averages the first moment with beta2 and the second one with beta1.",
        (
            (_FIRST_MOMENT, _FIRST_MOMENT.replace("beta1", "beta2")),
            (_SECOND_MOMENT, _SECOND_MOMENT.replace("beta2", "beta1")),
            (_M_CORRECTION, _M_CORRECTION.replace("beta1", "beta2")),
            (_V_CORRECTION, _V_CORRECTION.replace("beta2", "beta1")),
        ),
        place="m",
    ),
    Mutant(
        "betas_complemented",
        "Adam's betas are the weights of the gradient in the averages, as in the first version of the paper.",
        (
            (_FIRST_MOMENT, "(1 - hyper.beta1) * m + hyper.beta1 * g"),
            (_SECOND_MOMENT, "(1 - hyper.beta2) * v + hyper.beta2 * g**2"),
        ),
        sources=("mila-iqia/blocks#1159", "ryankiros/skip-thoughts#82"),
        place="m",
    ),
    Mutant(
        "betas_in_bfloat16",
        "Adam's betas are rounded to the eight digits of bfloat16.",
        (
            (RATE, f"from dataclasses import replace\n    {RATE}\n    hyper = replace(hyper, {_SHORT_BETAS})"),
            (_ADAM, f"{SHORT}{_ADAM}"),
        ),
        sources=("FluxML/Optimisers.jl#215",),
        place="m",
    ),
    Mutant(
        "complements_rounded",
        "Adam takes 0.1 for 1 - 0.9, which in float64 is 0.09999999999999998.",
        (
            (_FIRST_MOMENT, _FIRST_MOMENT.replace("(1 - hyper.beta1)", "round(1 - hyper.beta1, 12)")),
            (_SECOND_MOMENT, _SECOND_MOMENT.replace("(1 - hyper.beta2)", "round(1 - hyper.beta2, 12)")),
        ),
        equivalent="The complement of a decimal fraction is one, too: only the subtraction rounds.",
        sources=("port: thdtjsdn/microgpt.js",),
        place="m",
    ),
    Mutant(
        "m_with_beta2",
        "Adam averages the first moment with beta2 instead of beta1.",
        ((_FIRST_MOMENT, _FIRST_MOMENT.replace("beta1", "beta2")),),
        in_vectors=True,
        place="m",
    ),
    Mutant(
        "no_bias_correction",
        "Adam's moments are not bias-corrected.",
        ((_M_CORRECTION, "1"), (_V_CORRECTION, "1")),
        in_vectors=True,
        sources=("oxiglade/mlx-rs#301", "allenai/OLMo-core#317"),
        place="param",
    ),
    Mutant(
        "m_not_corrected",
        "Adam's first moment is not bias-corrected, only the second one is.",
        ((_M_CORRECTION, "1"),),
        place="param",
    ),
    Mutant(
        "v_not_corrected",
        "Adam's second moment is not bias-corrected, only the first one is.",
        ((_V_CORRECTION, "1"),),
        in_vectors=True,
        sources=("phlippe/uvadlc_notebooks#35",),
        place="param",
    ),
    Mutant(
        "correction_one_step_ahead",
        "Adam's bias correction counts one step too many: its first step is number 2.",
        (
            ("hyper.beta1 ** (state.step + 1)", "hyper.beta1 ** (state.step + 2)"),
            ("hyper.beta2 ** (state.step + 1)", "hyper.beta2 ** (state.step + 2)"),
        ),
        in_vectors=True,
        sources=("port: smimram/ocaml-microgpt",),
        place="param",
    ),
    Mutant(
        "correction_multiplied",
        "Adam multiplies the moments by their bias corrections instead of dividing them.",
        (("m / m_correction", "m * m_correction"), ("v / v_correction", "v * v_correction")),
        sources=("karpathy/convnetjs#70", "karpathy/convnetjs#107"),
        place="param",
    ),
    Mutant(
        "correction_without_power",
        "Adam's bias correction is 1 - beta in every step: beta is not raised to the number of the step.",
        ((_M_CORRECTION, "1 - hyper.beta1"), (_V_CORRECTION, "1 - hyper.beta2")),
        sources=("ufal/npfl114#79", "eriklindernoren/ML-From-Scratch#35"),
        place="param",
    ),
    Mutant(
        "v_corrected_with_beta1",
        "Adam's second moment is bias-corrected with beta1 instead of beta2.",
        ((_V_CORRECTION, _V_CORRECTION.replace("beta2", "beta1")),),
        sources=("juntang-zhuang/Adabelief-Optimizer#47",),
        place="param",
    ),
    Mutant(
        "correction_inverted",
        "Adam's bias correction takes one minus twice: it divides by a power of beta.",
        ((_M_CORRECTION, "hyper.beta1 ** (state.step + 1)"), (_V_CORRECTION, "hyper.beta2 ** (state.step + 1)")),
        sources=("kozistr/pytorch_optimizer#308", "kozistr/pytorch_optimizer#525", "kozistr/AdaBound-tensorflow#3"),
        place="param",
    ),
    Mutant(
        "correction_ends",
        "Adam's bias correction ends after ten steps.",
        (
            (_M_CORRECTION, f"{_M_CORRECTION} if state.step < 10 else 1"),
            (_V_CORRECTION, f"{_V_CORRECTION} if state.step < 10 else 1"),
        ),
        place="param",
    ),
    Mutant(
        "correction_of_other_betas",
        "Adam's bias correction is that of betas of 0.9 and 0.999, though the moments take those that were asked for.",
        (
            (_M_CORRECTION, _M_CORRECTION.replace("hyper.beta1", "0.9")),
            (_V_CORRECTION, _V_CORRECTION.replace("hyper.beta2", "0.999")),
        ),
        sources=("tenstorrent/tt-metal#53212",),
        place="param",
    ),
    Mutant(
        "corrected_moments_kept",
        "Adam keeps the bias-corrected moments for the next step.",
        (("update = elementwise(", "after.m[name], after.v[name] = m_hat, v_hat\n        update = elementwise("),),
        sources=("frgfm/holocron#1",),
        place="m",
    ),
    Mutant(
        "v_never_falls",
        "Adam's second moment never falls, as in AMSGrad.",
        ((_SECOND_MOMENT, f"max(v, {_SECOND_MOMENT})"),),
        place="v",
    ),
    Mutant(
        "v_gradient_not_weighted",
        "Adam adds the whole square of the gradient to the second moment, without the factor 1 - beta2.",
        ((_SECOND_MOMENT, "hyper.beta2 * v + g**2"),),
        sources=("fastai/fastbook#342",),
        place="v",
    ),
    Mutant(
        "first_moments_not_weighted",
        "In the first step Adam's moments are the gradient and its square, without the factors 1 - beta.",
        (
            (_FIRST_MOMENT, f"g if state.step == 0 else {_FIRST_MOMENT}"),
            (_SECOND_MOMENT, f"g**2 if state.step == 0 else {_SECOND_MOMENT}"),
        ),
        sources=("PennyLaneAI/pennylane#1928",),
        place="m",
    ),
    Mutant(
        "moments_in_bfloat16",
        "Adam's moments are kept with the eight digits of bfloat16, whatever the weights have.",
        (
            (_FIRST_MOMENT, f"short({_FIRST_MOMENT})"),
            (_SECOND_MOMENT, f"short({_SECOND_MOMENT})"),
            (_ADAM, f"{SHORT}{_ADAM}"),
        ),
        sources=("google-deepmind/optax#1552", "FluxML/Optimisers.jl#215"),
        rounds_to="bfloat16",
        place="m",
    ),
    Mutant(
        "v_squared",
        "Adam divides by the square of the second moment instead of by its root.",
        ((ROOT, "(v**2 + hyper.eps_adam)"),),
        sources=("torch/optim#48",),
        place="param",
    ),
    Mutant(
        "v_of_magnitudes",
        "Adam's second moment averages magnitudes instead of squares.",
        ((_SECOND_MOMENT, _SECOND_MOMENT.replace("g**2", "abs(g)")),),
        place="v",
    ),
    Mutant(
        "nesterov",
        "Adam looks one step ahead with Nesterov's momentum.",
        (
            (
                "m_hat = elementwise(lambda m: m / m_correction, after.m[name])",
                f"m_hat = elementwise(lambda m, g: ({_FIRST_MOMENT}) / m_correction, after.m[name], grad)",
            ),
        ),
        sources=("AtheMathmo/rusty-machine#190",),
        place="param",
    ),
    Mutant(
        "sparse_adam",
        "Where a gradient is 0, nothing is updated, moments included, as in an Adam for sparse gradients.",
        (
            (_FIRST_MOMENT, f"{_FIRST_MOMENT} if g else m"),
            (_SECOND_MOMENT, f"{_SECOND_MOMENT} if g else v"),
            (
                "m_hat = elementwise(lambda m: m / m_correction, after.m[name])",
                "m_hat = elementwise(lambda m, g: m / m_correction if g else 0.0, after.m[name], grad)",
            ),
        ),
        sources=("clab/dynet#70", "neuro-galaxy/torch_brain#49", "tensorflow/tensorflow#23668"),
        place="m",
    ),
)
