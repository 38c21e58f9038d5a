"""Mistakes in what Adam makes of its moments: the update of the weights."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_STEP = "lambda p, u: p - u"
_EVERY_GRADIENT = "for name, grad in grads.items():"
_DECAYING = "grad = elementwise(lambda g, p: g + 0.01 * p, grad, state.params[name])"


UPDATE = of_stage(
    "Adam",
    Mutant(
        "update_clipped",
        "Adam's step is never longer than the learning rate.",
        (("rate * m / (v**0.5 + hyper.eps_adam)", "rate * max(-1.0, min(1.0, m / (v**0.5 + hyper.eps_adam)))"),),
        place="param",
    ),
    Mutant(
        "update_clipped_at_10",
        "No weight changes by more than 10 in a step.",
        ((_STEP, "lambda p, u: p - max(-10.0, min(10.0, u))"),),
        place="param",
    ),
    Mutant(
        "weight_decay",
        "Weights decay by 0.01 of the learning rate, as AdamW's do unless told otherwise.",
        ((_STEP, f"{_STEP} - 0.01 * rate * p"),),
        in_vectors=True,
        sources=("ServiceNow/Fast-LLM#545", "dingo-actual/om#12"),
        place="param",
    ),
    Mutant(
        "weight_decay_in_gradient",
        "A hundredth of the weights is added to their gradients before Adam takes them.",
        ((_EVERY_GRADIENT, f"{_EVERY_GRADIENT}\n        {_DECAYING}"),),
        sources=("nntrainer/nntrainer#3565", "pytorch/pytorch#48793"),
        place="m",
    ),
    Mutant(
        "embeddings_frozen",
        "The token embeddings are not updated.",
        ((_STEP, 'lambda p, u: p if name == "wte" else p - u'),),
        sources=("dhansmair/flamingo-mini#2",),
        place="param",
    ),
    Mutant(
        "never_updated",
        "The weights are never updated.",
        ((_STEP, "lambda p, u: p"),),
        in_vectors=True,
        sources=("tedlasai/learn2refocus#5", "dotnet/TorchSharp#414"),
        place="param",
    ),
)
