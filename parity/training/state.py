"""All that a training carries from step to step, as numbers with the formats that they lie in."""

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from parity.oracle.shadows.shadow import WIDE, Shadow, exchangeable, in_shadow
from parity.training.training import Training


class Numbers(NamedTuple):
    """Numbers, in float64 or in the format that they lie in, and that format."""

    held: Tensor
    dtype: torch.dtype

    def rounded(self) -> "Numbers":
        """The same, rounded to their format."""
        return Numbers(self.held.to(self.dtype), self.dtype)


@dataclass
class State:
    """A training's parameters, buffers and optimizer's state, and what schedule and scaler count.

    params, buffers: by name. grads: those that a step leaves behind, which the next one is to zero. optimizer: by the
    name of a parameter, what the optimizer keeps of it by its own names: Numbers, or whatever else it keeps.
    """

    params: dict[str, Numbers]
    buffers: dict[str, Any]
    optimizer: dict[str, dict[str, Any]]
    grads: dict[str, Numbers] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)

    def rounded(self) -> "State":
        """The same, with all numbers rounded to the formats that they lie in."""
        return State(
            {name: numbers.rounded() for name, numbers in self.params.items()},
            {name: _rounded(value) for name, value in self.buffers.items()},
            {name: {k: _rounded(x) for k, x in kept.items()} for name, kept in self.optimizer.items()},
            {name: numbers.rounded() for name, numbers in self.grads.items()},
            self.groups,
            self.others,
        )


def named_parameters(training: Training) -> dict[str, Tensor]:
    """The model's parameters by name, tied ones once."""
    return {written_name(name): param for name, param in training.model.named_parameters()}


def named_buffers(training: Training) -> dict[str, Tensor]:
    """The model's buffers by name."""
    return {written_name(name): buffer for name, buffer in training.model.named_buffers()}


def written_name(name: str) -> str:
    """What the model's own code calls a part; `torch.compile` wraps it, and that makes no other model."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def tied_names(training: Training) -> dict[str, str]:
    """Other names of tied parameters, each with the one that `named_parameters` has."""
    names = {id(param): name for name, param in named_parameters(training).items()}
    every = training.model.named_parameters(remove_duplicate=False)
    return {name: names[id(param)] for name, param in every if names[id(param)] != name}


def state_of(training: Training) -> State:
    """What a training carries, copied."""
    with _disable_current_modes(), torch.no_grad():
        params = named_parameters(training)
        kept = training.optimizer.state
        return State(
            {name: _numbers(param) for name, param in params.items()},
            {name: _copied(buffer) for name, buffer in named_buffers(training).items()},
            {name: {k: _copied(x) for k, x in kept[p].items()} for name, p in params.items() if p in kept},
            {name: _numbers(p.grad) for name, p in params.items() if p.grad is not None},
            [{k: _copied(x) for k, x in group.items() if k != "params"} for group in training.optimizer.param_groups],
            {
                name: copy.deepcopy(part.state_dict())
                for name, part in (("schedule", training.schedule), ("grad_scaler", training.grad_scaler))
                if part is not None
            },
        )


def load_state(training: Training, state: State) -> None:
    """Set a training, on shadows or not, to a state."""
    with _disable_current_modes(), torch.no_grad():
        params = named_parameters(training)
        for name, param in params.items():
            _write(param, state.params[name].held)
            param.grad = None
            if name in state.grads:
                param.grad = _made(state.grads[name], isinstance(param, Shadow))
        for name, buffer in named_buffers(training).items():
            if name in state.buffers:
                value = state.buffers[name]
                _write(buffer, value.held if isinstance(value, Numbers) else value)
        kept = training.optimizer.state
        kept.clear()
        shadows = any(isinstance(param, Shadow) for param in params.values())
        for name, values in state.optimizer.items():
            kept[params[name]] = {k: _made(x, shadows) for k, x in values.items()}
        for group, values in zip(training.optimizer.param_groups, state.groups):
            group.update({k: _made(x, shadows) for k, x in values.items()})
        for name, part in (("schedule", training.schedule), ("grad_scaler", training.grad_scaler)):
            if part is not None and name in state.others:
                part.load_state_dict(copy.deepcopy(state.others[name]))


def shadow(training: Training) -> None:
    """Turn all floats that a training holds into shadows, in place."""
    held = [*training.model.parameters(), *training.model.buffers()]
    for module in training.model.modules():  # constants that are no buffers
        held += [x for x in vars(module).values() if isinstance(x, Tensor)]
    held += [x for kept in training.optimizer.state.values() for x in kept.values() if isinstance(x, Tensor)]
    with exchangeable(training.model):
        for tensor in {id(tensor): tensor for tensor in held}.values():
            in_shadow(tensor)


def _numbers(tensor: Tensor) -> Numbers:
    held = tensor.held if isinstance(tensor, Shadow) else tensor.detach()
    return Numbers(held.clone(), tensor.dtype)


def _copied(x: Any) -> Any:
    if isinstance(x, Tensor):
        return _numbers(x) if x.dtype in WIDE else x.clone()
    return copy.deepcopy(x)


def _rounded(x: Any) -> Any:
    return x.rounded() if isinstance(x, Numbers) else x


def _made(x: Any, shadows: bool) -> Any:
    if isinstance(x, Numbers):
        return Shadow(x.held.to(WIDE[x.dtype], copy=True), x.dtype) if shadows else x.held.to(x.dtype, copy=True)
    return x.clone() if isinstance(x, Tensor) else copy.deepcopy(x)


def _write(tensor: Tensor, numbers: Tensor) -> None:
    (tensor.held if isinstance(tensor, Shadow) else tensor).copy_(numbers)
