"""Mistakes in what a subject takes from a state that is loaded, and in what it carries from step to step."""

from dataclasses import replace

from typing_extensions import override

from parity.catalogue.mutants.mutant import Mutant, MutantSubject, of_stage
from reference.config import State, Step
from reference.microgpt import elementwise, init_state

_CARRIED = "return after, Step("
_SMALL_LOSS_SKIPPED = """if loss.data < 0.05:
        after = State(state.params, state.m, state.v, state.step + 1)
    """


class _WithoutMoments(MutantSubject):
    """Forgets some moments of a state that is loaded."""

    kinds: tuple[str, ...] = ("m", "v")

    @override
    def load(self, state: State) -> None:
        fresh = init_state(state.params)
        self.state = replace(state, **{kind: getattr(fresh, kind) for kind in self.kinds})


class _WithoutFirstMoments(_WithoutMoments):
    kinds = ("m",)


class _WithoutSecondMoments(_WithoutMoments):
    kinds = ("v",)


class _WithoutStep(MutantSubject):
    @override
    def load(self, state: State) -> None:
        self.state = replace(state, step=0)


class _KeepingMoments(MutantSubject):
    """The optimizer is made once, and what is loaded are weights and the step number."""

    @override
    def load(self, state: State) -> None:
        own = getattr(self, "state", None) or init_state(state.params)
        self.state = replace(state, m=own.m, v=own.v)


class _KeepingStep(MutantSubject):
    @override
    def load(self, state: State) -> None:
        self.state = replace(state, step=self.state.step if hasattr(self, "state") else 0)


class _LoadingOnce(MutantSubject):
    @override
    def load(self, state: State) -> None:
        self.state = getattr(self, "state", state)


class _AddingGradients(MutantSubject):
    """The gradients of earlier steps stay in place, and a load does not clear them."""

    grads: dict[str, list[list[float]]] | None = None

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        _, step = self.model.train_step(self.state, batch, self.config, self.hyper)
        before, grads = self.grads, step.grads
        if before is not None:
            grads = {name: elementwise(lambda g, h: g + h, grad, before[name]) for name, grad in grads.items()}
        self.grads, self.state = grads, self.model.adam(self.state, grads, self.hyper)
        return Step(step.loss, step.logits, grads, self.state.params, self.state.m, self.state.v)


class _LeakingGradients(MutantSubject):
    """What the last document of a batch gives is cleared too early, and is added to the next step's gradients."""

    left: dict[str, list[list[float]]] | None = None

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        _, step = self.model.train_step(self.state, batch, self.config, self.hyper)
        _, last = self.model.train_step(self.state, batch[-1:], self.config, self.hyper)
        before, grads = self.left, step.grads
        if before is not None:
            grads = {name: elementwise(lambda g, h: g + h, grad, before[name]) for name, grad in grads.items()}
        self.left = {name: elementwise(lambda g: g / len(batch), grad) for name, grad in last.grads.items()}
        self.state = self.model.adam(self.state, grads, self.hyper)
        return Step(step.loss, step.logits, grads, self.state.params, self.state.m, self.state.v)


class _UpdatingOldWeights(MutantSubject):
    """The optimizer holds a copy of the weights that it updates, and a load does not reach it."""

    @override
    def load(self, state: State) -> None:
        self.copy = self.state.params if hasattr(self, "state") else state.params
        self.state = state

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        _, step = self.model.train_step(self.state, batch, self.config, self.hyper)
        self.state = self.model.adam(replace(self.state, params=self.copy), step.grads, self.hyper)
        self.copy = self.state.params
        return Step(step.loss, step.logits, step.grads, self.state.params, self.state.m, self.state.v)


LOOP = of_stage(
    "loop",
    Mutant(
        "moments_not_loaded",
        "The moments of a state that is loaded are forgotten.",
        subject=_WithoutMoments,
        sources=("KempnerInstitute/KempnerForge#115", "OpenNMT/OpenNMT-py#617", "paiml/entrenar#293"),
        place="m",
    ),
    Mutant(
        "m_not_loaded",
        "The first moments of a state that is loaded are forgotten.",
        subject=_WithoutFirstMoments,
        place="m",
    ),
    Mutant(
        "v_not_loaded",
        "The second moments of a state that is loaded are forgotten.",
        subject=_WithoutSecondMoments,
        place="v",
    ),
    Mutant(
        "step_not_loaded",
        "The step number of a state that is loaded is forgotten.",
        subject=_WithoutStep,
        sources=("keras-team/keras#13027", "lightly-ai/lightly-train#301"),
        place="param",
    ),
    Mutant(
        "moments_kept",
        "The moments stay as they are when a state is loaded.",
        subject=_KeepingMoments,
        sources=("p-doom/jasmine#129",),
        place="m",
    ),
    Mutant(
        "step_kept",
        "The step number goes on when a state is loaded.",
        subject=_KeepingStep,
        sources=("deepspeedai/DeepSpeed#564",),
        place="param",
    ),
    Mutant(
        "loaded_once",
        "A state is loaded the first time only.",
        subject=_LoadingOnce,
        sources=("huggingface/diffusers#5405",),
        place="site embedding",
    ),
    Mutant(
        "gradients_not_zeroed",
        "Gradients are added to those of the steps before: they are not set to zero.",
        subject=_AddingGradients,
        sources=("huggingface/transformers#340", "meta-pytorch/torchforge#71", "deepspeedai/DeepSpeed#7839"),
        place="grad lm_head",
    ),
    Mutant(
        "last_gradient_leaks",
        "The gradient of a batch's last document is added to those of the next step, too.",
        subject=_LeakingGradients,
        sources=("TrenTorch/TrenTorch#187",),
        place="grad lm_head",
    ),
    Mutant(
        "old_weights_updated",
        "After a load the step's update is made to the weights of before: the optimizer has a copy of its own.",
        subject=_UpdatingOldWeights,
        sources=("NovaSky-AI/SkyRL#2149", "NVIDIA/Megatron-LM#174", "NVIDIA/apex#42"),
        place="param",
    ),
    Mutant(
        "step_not_counted",
        "The step number stays what it was, in the schedule and in Adam.",
        (("after = State({}, {}, {}, state.step + 1)", "after = State({}, {}, {}, state.step)"),),
        sources=("allenai/OLMo-core#317",),
        place="param",
    ),
    Mutant(
        "small_losses_skipped",
        "A step whose loss is below 0.05 changes neither weights nor moments.",
        ((_CARRIED, _SMALL_LOSS_SKIPPED + _CARRIED),),
        place="m",
    ),
    Mutant(
        "weights_not_carried",
        "A step starts from the weights of the step before instead of from the updated ones.",
        ((_CARRIED, "return State(state.params, after.m, after.v, after.step), Step("),),
        sources=("google/flax#233",),
        place="site embedding",
    ),
    Mutant(
        "moments_not_carried",
        "A step starts from the moments of the step before instead of from the updated ones.",
        ((_CARRIED, "return State(after.params, state.m, state.v, after.step), Step("),),
        sources=("google/flax#2467",),
        place="m",
    ),
)
