"""Mistakes in Adam and in its learning-rate schedule."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_FIRST_MOMENT = "hyper.beta1 * m + (1 - hyper.beta1) * g"
_SECOND_MOMENT = "hyper.beta2 * v + (1 - hyper.beta2) * g**2"
_M_CORRECTION = "1 - hyper.beta1 ** (state.step + 1)"
_V_CORRECTION = "1 - hyper.beta2 ** (state.step + 1)"
RATE = "rate = learning_rate(state.step, hyper)"
ROOT = "(v**0.5 + hyper.eps_adam)"
_STEP = "lambda p, u: p - u"
_PROGRESS = "progress = step / hyper.num_steps"
_DECAYED = "hyper.learning_rate * decay"
_EVERY_GRADIENT = "for name, grad in grads.items():"
_DECAYING = "grad = elementwise(lambda g, p: g + 0.01 * p, grad, state.params[name])"
_COSINE = "0.5 * (1 + math.cos(math.pi * progress))"


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
    ),
    Mutant("eps_missing", "Adam does not add eps to the root.", ((ROOT, "(v**0.5 or 1.0)"),)),
    Mutant(
        "eps_hard_coded",
        "Adam's eps is 1e-8, whatever was asked for.",
        _hyper(eps_adam=1e-8),
        sources=("LaurentMazare/ocaml-torch#54", "facebookresearch/pytext#858"),
    ),
    Mutant(
        "eps_before_correction",
        "Adam adds eps before the second moment is bias-corrected, so that the correction scales it.",
        ((ROOT, "(v**0.5 + hyper.eps_adam / v_correction**0.5)"),),
        sources=("karpathy/nanochat#304", "pytorch/pytorch#22628", "tensorflow/tensorflow#35102"),
    ),
    Mutant(
        "betas_hard_coded",
        "Adam's betas are 0.85 and 0.99, whatever was asked for.",
        _hyper(beta1=0.85, beta2=0.99),
        sources=("OpenNMT/OpenNMT-py#386", "port: thdtjsdn/microgpt.js"),
    ),
    Mutant(
        "betas_of_pytorch",
        "Adam's betas are 0.9 and 0.999, PyTorch's defaults.",
        _hyper(beta1=0.9, beta2=0.999),
        sources=("AI-Hypercomputer/maxtext#17",),
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
    ),
    Mutant(
        "m_with_beta2",
        "Adam averages the first moment with beta2 instead of beta1.",
        ((_FIRST_MOMENT, _FIRST_MOMENT.replace("beta1", "beta2")),),
        in_vectors=True,
    ),
    Mutant(
        "no_bias_correction",
        "Adam's moments are not bias-corrected.",
        ((_M_CORRECTION, "1"), (_V_CORRECTION, "1")),
        in_vectors=True,
        sources=("oxiglade/mlx-rs#301", "allenai/OLMo-core#317"),
    ),
    Mutant(
        "m_not_corrected", "Adam's first moment is not bias-corrected, only the second one is.", ((_M_CORRECTION, "1"),)
    ),
    Mutant(
        "v_not_corrected",
        "Adam's second moment is not bias-corrected, only the first one is.",
        ((_V_CORRECTION, "1"),),
        in_vectors=True,
        sources=("phlippe/uvadlc_notebooks#35",),
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
    ),
    Mutant(
        "correction_inverted",
        "Adam's bias correction takes one minus twice: it divides by a power of beta.",
        ((_M_CORRECTION, "hyper.beta1 ** (state.step + 1)"), (_V_CORRECTION, "hyper.beta2 ** (state.step + 1)")),
        sources=("kozistr/pytorch_optimizer#308", "kozistr/pytorch_optimizer#525", "kozistr/AdaBound-tensorflow#3"),
    ),
    Mutant(
        "correction_ends",
        "Adam's bias correction ends after ten steps.",
        (
            (_M_CORRECTION, f"{_M_CORRECTION} if state.step < 10 else 1"),
            (_V_CORRECTION, f"{_V_CORRECTION} if state.step < 10 else 1"),
        ),
    ),
    Mutant(
        "corrected_moments_kept",
        "Adam keeps the bias-corrected moments for the next step.",
        (("update = elementwise(", "after.m[name], after.v[name] = m_hat, v_hat\n        update = elementwise("),),
        sources=("frgfm/holocron#1",),
    ),
    Mutant(
        "v_never_falls",
        "Adam's second moment never falls, as in AMSGrad.",
        ((_SECOND_MOMENT, f"max(v, {_SECOND_MOMENT})"),),
    ),
    Mutant(
        "v_of_magnitudes",
        "Adam's second moment averages magnitudes instead of squares.",
        ((_SECOND_MOMENT, _SECOND_MOMENT.replace("g**2", "abs(g)")),),
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
    ),
    Mutant(
        "update_clipped",
        "Adam's step is never longer than the learning rate.",
        (("rate * m / (v**0.5 + hyper.eps_adam)", "rate * max(-1.0, min(1.0, m / (v**0.5 + hyper.eps_adam)))"),),
    ),
    Mutant(
        "update_clipped_at_10",
        "No weight changes by more than 10 in a step.",
        ((_STEP, "lambda p, u: p - max(-10.0, min(10.0, u))"),),
    ),
    Mutant(
        "weight_decay",
        "Weights decay by 0.01 of the learning rate, as AdamW's do unless told otherwise.",
        ((_STEP, f"{_STEP} - 0.01 * rate * p"),),
        in_vectors=True,
        sources=("ServiceNow/Fast-LLM#545", "dingo-actual/om#12"),
    ),
    Mutant(
        "weight_decay_in_gradient",
        "A hundredth of the weights is added to their gradients before Adam takes them.",
        ((_EVERY_GRADIENT, f"{_EVERY_GRADIENT}\n        {_DECAYING}"),),
        sources=("nntrainer/nntrainer#3565", "pytorch/pytorch#48793"),
    ),
    Mutant(
        "embeddings_frozen",
        "The token embeddings are not updated.",
        ((_STEP, 'lambda p, u: p if name == "wte" else p - u'),),
        sources=("dhansmair/flamingo-mini#2",),
    ),
    Mutant(
        "never_updated",
        "The weights are never updated.",
        ((_STEP, "lambda p, u: p"),),
        in_vectors=True,
        sources=("tedlasai/learn2refocus#5", "dotnet/TorchSharp#414"),
    ),
)

SCHEDULE = of_stage(
    "schedule",
    Mutant(
        "schedule_confused",
        "The learning rate falls linearly where it should fall as a cosine, or as a cosine where it should linearly.",
        (('hyper.lr_schedule == "cosine"', 'hyper.lr_schedule != "cosine"'),),
        in_vectors=True,
    ),
    Mutant(
        "schedule_always_linear",
        "The learning rate falls linearly even where a cosine is asked for.",
        (('hyper.lr_schedule == "cosine"', "False"),),
    ),
    Mutant(
        "schedule_always_cosine",
        "The learning rate falls as a cosine even where a line is asked for.",
        (('hyper.lr_schedule == "cosine"', "True"),),
        sources=("port: enjector/microgpt-c",),
    ),
    Mutant(
        "cosine_of_quarter",
        "The learning rate falls as the first quarter of a cosine instead of the first half, moved above 0.",
        ((_COSINE, "math.cos(math.pi / 2 * progress)"),),
        sources=("goodfire-ai/spd#311", "goodfire-ai/spd#236"),
    ),
    Mutant(
        "rate_one_step_ahead",
        "The learning rate decays one step too early: it is that of step + 1.",
        ((_PROGRESS, "progress = (step + 1) / hyper.num_steps"),),
        in_vectors=True,
        sources=("port: smimram/ocaml-microgpt", "port: dewmal/microgpt-rusty", "port: MeKo-Christian/go-microgpt"),
    ),
    Mutant(
        "rate_ends_one_step_early",
        "The learning rate reaches 0 in the last step instead of after it: progress is step / (num_steps - 1).",
        ((_PROGRESS, "progress = step / max(1, hyper.num_steps - 1)"),),
        sources=("pytorch/torchtitan#1010",),
    ),
    Mutant(
        "rate_constant",
        "The learning rate does not decay.",
        ((_DECAYED, "hyper.learning_rate"),),
        in_vectors=True,
        sources=("thu-ml/tianshou#774", "facebookresearch/ParlAI#4384", "hiyouga/LlamaFactory#2495"),
    ),
    Mutant(
        "rate_hard_coded",
        "The learning rate starts at 0.01, whatever was asked for.",
        ((_DECAYED, "0.01 * decay"),),
        sources=("buriburisuri/sugartensor#40", "yifita/DSS#25", "david-vazquez/mcv-m5#7"),
    ),
    Mutant(
        "num_steps_hard_coded",
        "The learning rate decays over 1000 steps, whatever was asked for.",
        ((_PROGRESS, "progress = step / 1000"),),
        sources=("lucidrains/imagen-pytorch#71", "port: mauropm/gomicrogpt"),
    ),
    Mutant(
        "rate_floored",
        "The learning rate never falls below a tenth of where it started.",
        ((_DECAYED, "hyper.learning_rate * max(0.1, decay)"),),
        sources=("EleutherAI/gpt-neox#1008", "ml-explore/mlx#1138"),
    ),
    Mutant(
        "rate_decays_to_a_tenth",
        "The learning rate decays to a tenth of where it started instead of to 0.",
        ((_DECAYED, "hyper.learning_rate * (0.1 + 0.9 * decay)"),),
    ),
    Mutant(
        "rate_warms_up",
        "The learning rate rises over the first ten steps.",
        ((_DECAYED, f"{_DECAYED} * min(1.0, (step + 1) / 10)"),),
        sources=("port: enjector/microgpt-c",),
    ),
    Mutant(
        "rate_starts_over",
        "The learning rate starts over every hundred steps.",
        ((_PROGRESS, "progress = step % 100 / hyper.num_steps"),),
        sources=("tracel-ai/burn#5191",),
    ),
)
