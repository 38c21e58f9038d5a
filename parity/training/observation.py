"""What a step shows: its loss, outputs, gradients and state, and the sites of named modules, by hooks."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from parity.errors import UsageError
from parity.oracle.shadows.shadow import WIDE, Shadow, inner_of
from parity.quantities import TensorKey
from parity.training.state import named_buffers, named_parameters, written_name
from parity.training.training import Training

Gradients = Mapping[str, Tensor]
"""By the name of a parameter, in whatever format."""


@dataclass
class Observed:
    """The tensors of a step in the order of its computation, and the formats that they lay in.

    tensors: numbers of a format in that format, those of shadows in float64.
    """

    tensors: dict[TensorKey, Tensor] = field(default_factory=dict)
    dtypes: dict[TensorKey, torch.dtype] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    """By the name of a site, the kind of module that it belongs to."""
    updates: int = 0
    """How often the optimizer was called."""
    modules_are_seen: bool = True
    """Whether hooks on modules tell what they give."""

    def add(self, quantity: str, name: str, tensor: Tensor) -> None:
        """Take in a tensor of floats; others are passed over."""
        if tensor.dtype not in WIDE:
            return
        with _disable_current_modes(), torch.no_grad():
            held = tensor.held if isinstance(tensor, Shadow) else tensor.detach()
            self.take(TensorKey(quantity, name), torch.view_as_real(held) if held.is_complex() else held, tensor.dtype)

    def take(self, key: TensorKey, tensor: Tensor, dtype: torch.dtype) -> None:
        """Keep a copy of a tensor's numbers, which lay in a format."""
        self.tensors[key] = tensor.clone()
        self.dtypes[key] = dtype

    def gradients(self) -> dict[str, Tensor]:
        """Those that the optimizer read."""
        return {key.name: tensor for key, tensor in self.tensors.items() if key.quantity == "grad"}


def observed_step(
    training: Training,
    number: int,
    *,
    sites: bool,
    gradients: "Replacement | None" = None,
    seen: Observed | None = None,
) -> Observed:
    """Take a step and note what it shows. gradients: what the optimizer is to read in place of the training's own.

    seen: what takes the tensors in, as they come.
    """
    seen = Observed() if seen is None else seen
    hooks = _module_hooks(training.model, seen, sites) if seen.modules_are_seen else nullcontext()
    with hooks, _optimizer_hook(training, seen, gradients):
        loss = training.take_step(number)
    if loss is not None:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UsageError(
                f"The step gives a {type(loss).__name__} as its loss; a scalar tensor or None is expected."
            )
        seen.add("loss", "loss", loss.detach())
    for name, param in named_parameters(training).items():
        for kept, value in training.optimizer.state.get(param, {}).items():
            if isinstance(value, Tensor):
                seen.add(kept, name, value)
    for name, param in named_parameters(training).items():
        if param.requires_grad:
            seen.add("param", name, param)
    for name, buffer in named_buffers(training).items():
        seen.add("buffer", name, buffer)
    return seen


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements; NaN is equal to itself, and to nothing else."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def same_bits(seen: Observed, other: Observed) -> bool:
    """Whether all tensors that both show are the same, NaN for NaN."""
    return all(same_numbers(tensor, other.tensors[key]) for key, tensor in seen.tensors.items() if key in other.tensors)


class Replacement:
    """Gradients of another run, in place of those of this one where these are not to decide on the update.

    given: what the other run's optimizer read. everywhere: all of them; otherwise those that differ by more than a
    sixteenth, so that rounding had a say in their sign or size.
    """

    def __init__(self, given: Gradients, *, everywhere: bool) -> None:
        self.given = given
        self.everywhere = everywhere

    def write(self, name: str, gradient: Tensor) -> None:
        """Write them into a gradient."""
        if name not in self.given:
            return
        held = inner_of(gradient)
        given = self.given[name].to(held)
        if not self.everywhere:
            given = torch.where((given - held).abs() > held.abs() / 16, given, held)
        held.copy_(given)
        if not isinstance(gradient, Shadow):
            gradient.copy_(held)


@contextmanager
def _optimizer_hook(training: Training, seen: Observed, gradients: Replacement | None) -> Iterator[None]:
    names = {id(param): name for name, param in named_parameters(training).items()}

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if args[1:] or kwargs.get("closure") is not None:
            raise UsageError("The optimizer is called with a closure, which a check cannot take apart.")
        seen.updates += 1
        for group in optimizer.param_groups:
            for param in group["params"]:
                if param.grad is None or id(param) not in names:
                    continue
                if param.grad.is_sparse:
                    raise UsageError(f"The gradient of {names[id(param)]} is sparse, which a check cannot compare.")
                seen.add("grad", names[id(param)], param.grad)
                if gradients is not None:
                    with _disable_current_modes(), torch.no_grad():
                        gradients.write(names[id(param)], param.grad)

    handle = training.optimizer.register_step_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _module_hooks(model: nn.Module, seen: Observed, sites: bool) -> Iterator[None]:
    """Note what modules give, and the gradients of that; of the model itself alone without sites."""
    calls: Counter[str] = Counter()

    def hook(name: str, module: nn.Module) -> Any:
        def called(_: nn.Module, __: Any, out: Any) -> None:
            if torch._C._current_graph_task_id() != -1:
                return  # computed anew as gradients ask for it, by checkpointing
            calls[name] += 1
            call = f" call {calls[name]}" if calls[name] > 1 else ""
            for label, tensor in _floats(out):
                site = (name or "model") + call + label
                seen.modules[site] = type(module).__name__
                if not name:
                    seen.add("output", label.lstrip(".") + call if label else "output" + call, tensor)
                elif sites:
                    seen.add("site", site, tensor)
                if name and sites and tensor.requires_grad:
                    note = partial(seen.add, "site grad", site)
                    tensor.register_hook(note)  # type: ignore[no-untyped-call]

        return module.register_forward_hook(called)

    # Of a model that is compiled as a whole, what it wraps gives the same once more.
    named = {written_name(name): module for name, module in reversed(list(model.named_modules()))}
    handles = [hook(name, module) for name, module in reversed(named.items()) if sites or not name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def calls_of(seen: Observed) -> Counter[tuple[str, str]]:
    """How often each site and output was had, by quantity and name."""
    return Counter((key.quantity, called(key)) for key in seen.tensors)


def called(key: TensorKey) -> str:
    """The name of a site or output, whichever call it is of."""
    return re.sub(r" call \d+", "", key.name)


def _floats(out: Any) -> list[tuple[str, Tensor]]:
    """The tensors of floats in what a module gives, with what tells them apart."""
    if isinstance(out, Tensor):
        return [("", out)] if out.dtype in WIDE else []
    if isinstance(out, Mapping):
        found = [(f".{k}", x) for k, x in out.items()]
    elif isinstance(out, (list, tuple)):
        found = [(f".{i}", x) for i, x in enumerate(out)]
    else:
        return []
    return [(label + below, x) for label, part in found for below, x in _floats(part)]
