"""Models by other hands: correct variants pass, and each planted mistake is found where it was made.

The mistakes are seen in bfloat16 autocast as in float32, since both sides' exact runs are compared.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch

from parity.errors import UsageError
from parity.training import Training
from parity.training.checking import Against, TrainingOptions, check_training
from parity.training.other import OtherHere
from parity.training.result import TrainingResult
from parity.training.running import Factory
from parity.verdict import Verdict
from tests.training import models

Make = Callable[..., Training]
ONE_LAYER = {"layers": 1}
"""Where a second layer, which others here have, would show nothing else."""

PASSES = (Verdict.IDENTICAL, Verdict.PARITY)
OF_TRANSFORMERS = {models.gpt2, models.llama, models.accumulating, models.scaling}


@pytest.fixture(autouse=True)
def _offline_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for operations as small as these
    yield
    torch.set_num_threads(threads)


def checked(
    make: Make,
    other: Make | None = None,
    *,
    dtype: str | None = None,
    steps: int = 1,
    replicas: int = 4,
    modes: tuple[str, ...] = ("lock-step",),
    names: dict[str, Any] | None = None,
) -> TrainingResult:
    if getattr(make, "func", make) in OF_TRANSFORMERS:
        pytest.importorskip("transformers", reason="models by other hands are those of transformers")
    options = TrainingOptions(steps=steps, replicas=replicas, modes=modes)
    against = None
    if other is not None:
        against = Against(
            "the other", lambda n, sites: OtherHere(Factory(other, dtype), replicas=n, sites=sites), names or {}
        )
    return check_training("the subject", Factory(make, dtype), options, against=against)


ALONE: dict[str, tuple[Make, dict[str, Any], str | None]] = {
    "gpt2 in float32, foreach": (models.gpt2, {"optimizer": "foreach"}, None),
    "gpt2 in autocast, sdpa, fused": (
        models.gpt2,
        {"autocast": "bfloat16", "attention": "sdpa", "optimizer": "fused", **ONE_LAYER},
        None,
    ),
    "gpt2 in bfloat16": (models.gpt2, ONE_LAYER, "bfloat16"),
    "gpt2 in float64": (models.gpt2, ONE_LAYER, "float64"),
    "gpt2 in float16 with a scaler": (
        models.gpt2,
        {"autocast": "float16", "scaled": True, "clip_grad_norm": 0.5, **ONE_LAYER},
        None,
    ),
    "gpt2 accumulating and clipped": (models.gpt2, {"accumulation": 2, "clip_grad_norm": 1.0, **ONE_LAYER}, None),
    "gpt2 checkpointed in autocast": (models.gpt2, {"checkpointing": True, "autocast": "bfloat16"}, None),
    "llama in float32, amsgrad": (models.llama, {"optimizer": "amsgrad"}, None),
    "llama in autocast, sdpa": (models.llama, {"autocast": "bfloat16", "attention": "sdpa", **ONE_LAYER}, None),
    "llama in bfloat16, sgd": (models.llama, {"optimizer": "sgd", **ONE_LAYER}, "bfloat16"),
    "encoder with ReLU in autocast": (models.encoder, {"autocast": "bfloat16"}, None),
    "encoder with ReLU in bfloat16, fused": (models.encoder, {"optimizer": "fused"}, "bfloat16"),
    "LSTM in autocast": (models.recurrent, {"autocast": "bfloat16"}, None),
    "LSTM in float32": (models.recurrent, {}, None),
    "convolutions in autocast": (models.convolutional, {"autocast": "bfloat16"}, None),
    "convolutions in float32, sgd": (models.convolutional, {"optimizer": "sgd"}, None),
    "a step of one's own with a scaler": (models.scaling, {"autocast": "float16", **ONE_LAYER}, None),
}


@pytest.mark.parametrize(("make", "options", "dtype"), ALONE.values(), ids=list(ALONE))
def test_a_correct_training_is_what_its_exact_arithmetic_is(make: Make, options: Any, dtype: str | None) -> None:
    result = checked(partial(make, **options), dtype=dtype)
    assert result.verdict in PASSES, result.reason


@pytest.mark.parametrize("make", [models.encoder, models.convolutional, models.recurrent])
def test_a_correct_training_runs_freely_with_a_schedule(make: Make) -> None:
    result = checked(partial(make, scheduled=True, autocast="bfloat16"), steps=3, modes=("lock-step", "free-running"))
    assert result.verdict in PASSES, result.reason


SAME: dict[str, tuple[Make, dict[str, Any], dict[str, Any]]] = {
    "sdpa and eager attention": (models.gpt2, {"attention": "sdpa"}, {}),
    "sdpa and eager attention, grouped heads, in autocast": (
        models.llama,
        {"attention": "sdpa", "autocast": "bfloat16", **ONE_LAYER},
        {"autocast": "bfloat16", **ONE_LAYER},
    ),
    "autocast and float32": (models.gpt2, {"autocast": "bfloat16", **ONE_LAYER}, ONE_LAYER),
    "fused and for-loop": (models.llama, {"optimizer": "fused", **ONE_LAYER}, ONE_LAYER),
    "foreach and for-loop": (models.gpt2, {"optimizer": "foreach", **ONE_LAYER}, ONE_LAYER),
    "checkpointed and not": (models.gpt2, {"checkpointing": True, **ONE_LAYER}, ONE_LAYER),
    "accumulation and a batch of twice the size": (
        models.gpt2,
        {"accumulation": 2, "autocast": "bfloat16", **ONE_LAYER},
        {"loss": models.together(), "data": models.pairs(), "autocast": "bfloat16", **ONE_LAYER},
    ),
    "statistics of BatchNorm over steps": (models.convolutional, {"optimizer": "fused"}, {}),
}


@pytest.mark.parametrize(("make", "options", "others"), SAME.values(), ids=list(SAME))
def test_two_ways_to_compute_the_same_are_the_same(make: Make, options: Any, others: Any) -> None:
    steps = 2 if make is models.convolutional else 1
    result = checked(partial(make, **options), partial(make, **others), steps=steps)
    if "autocast" in options and "autocast" not in others:
        assert result.verdict is Verdict.PRECISION_LOSS, result.reason
        return
    assert result.verdict in PASSES, result.reason


class Planted(NamedTuple):
    """A mistake: options of a factory that make it, those of the right one, and where it must be said to begin."""

    make: Make
    wrong: dict[str, Any]
    place: str
    right: dict[str, Any] = {}  # noqa: RUF012
    steps: int = 1


PLANTED = {
    "eps of LayerNorm 10 % larger": Planted(models.gpt2, {"eps": 1.1e-5}, "site transformer.h.0.ln_1 (LayerNorm)"),
    "eps of LayerNorm 10 % smaller": Planted(models.gpt2, {"eps": 0.9e-5}, "site transformer.h.0.ln_1 (LayerNorm)"),
    "eps of RMSNorm 10 % larger": Planted(
        models.llama, {"eps": 1.1e-5}, "site model.layers.0.input_layernorm (LlamaRMSNorm)"
    ),
    "exact GELU": Planted(models.gpt2, {"activation": "gelu"}, "site transformer.h.0.mlp.act (GELUActivation)"),
    "GELU for ReLU": Planted(models.encoder, {"activation": "gelu"}, "site layer.dropout (Dropout)"),
    "rotary base 10001": Planted(models.llama, {"base": 10001.0}, "site model.rotary_emb.0 (LlamaRotaryEmbedding)"),
    "decayed norm": Planted(models.gpt2, {"decayed": ("ln_f.weight",)}, "param transformer.ln_f.weight"),
    "untied head": Planted(models.gpt2, {"tied": False}, "grad transformer.wte.weight"),
    "mask off by one": Planted(
        models.gpt2, {"loss": models.looking_ahead}, "site transformer.h.0.attn.c_proj (Conv1D)"
    ),
    "mask off by one, sdpa": Planted(
        models.llama,
        {"loss": models.looking_ahead, "attention": "sdpa"},
        "site model.layers.0.self_attn.o_proj (Linear)",
    ),
    "labels shifted twice": Planted(models.gpt2, {"loss": partial(models.language_loss, shift=1)}, "output loss"),
    "mean of microbatches": Planted(models.accumulating, {"average": "means"}, "loss"),
    "sum of microbatches": Planted(models.accumulating, {"average": "sum"}, "loss"),
    "stale no_sync": Planted(models.accumulating, {"synchronised": False}, "grad transformer.wte.weight"),
    "gradients of the step before": Planted(
        models.accumulating, {"clear": False}, "grad transformer.wte.weight", steps=2
    ),
    "schedule first": Planted(models.accumulating, {"schedule_first": True}, "param transformer.wte.weight"),
    "clipping before unscaling": Planted(models.scaling, {"clip_first": True}, "grad transformer.wte.weight"),
    "bias correction of the next step": Planted(
        models.encoder, {"optimizer": "own1"}, "param layer.self_attn.in_proj_weight", {"optimizer": "own"}
    ),
    "momentum of BatchNorm 10 % larger": Planted(models.convolutional, {"momentum": 0.11}, "buffer 1.running_mean"),
}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")  # which is what is planted
@pytest.mark.parametrize(("number", "planted"), list(enumerate(PLANTED.values())), ids=list(PLANTED))
def test_a_planted_mistake_is_found_where_it_was_made(number: int, planted: Planted) -> None:
    autocast = (None, "bfloat16")[number % 2]  # those of each model are in both
    shared: dict[str, Any] = {"autocast": autocast, **({"layers": 1} if planted.make in OF_TRANSFORMERS else {})}
    wrong, right = (partial(planted.make, **options, **shared) for options in (planted.wrong, planted.right))
    result = checked(wrong, right, steps=planted.steps, replicas=2)
    assert result.verdict is Verdict.DIVERGED, result.reason
    assert result.deciding is result.link
    assert result.located[0].split(":")[0] == planted.place


def test_a_site_called_as_often_is_compared_and_another_is_not() -> None:
    model = partial(models.gpt2, **ONE_LAYER)
    parts = checked(partial(model, accumulation=2), partial(model, loss=models.together(), data=models.pairs()))
    whole = checked(model, model)
    assert parts.link is not None
    assert whole.link is not None
    assert "site" not in parts.link.quantities
    assert "site" in whole.link.quantities


def test_a_head_tied_here_and_not_there_is_no_training_to_be_held_to() -> None:
    with pytest.raises(UsageError, match=r"lm_head\.weight is mapped nowhere"):
        checked(models.gpt2, partial(models.gpt2, tied=False))


def test_factor_of_a_sum_is_rounded_to_the_tensors_own_format() -> None:
    """Adam's decay where it nearly cancels a gradient: `grad.add(param, alpha=0.01)` takes 0.01 in bfloat16."""
    result = checked(
        partial(models.gpt2, optimizer="amsgrad", attention="sdpa", seed=151, data=models.batches(size=3, seed=151)),
        dtype="bfloat16",
        replicas=16,
    )
    assert result.verdict in PASSES, result.reason
