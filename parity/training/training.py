"""A training: what a factory makes, and how one step of it is taken."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import UsageError
from parity.number_formats import FORMATS

Loss = Callable[[nn.Module, Any], Tensor]
"""loss(model, batch) -> the mean loss of a batch, a scalar tensor."""

StepOfOnesOwn = Callable[[nn.Module, torch.optim.Optimizer, Any], Tensor | None]
"""step(model, optimizer, batch) -> the loss, if it gives it: zeroes gradients, goes forward and backward, updates."""


@dataclass
class Training:
    """A model, its optimizer, loss and batches: any PyTorch training step as a subject.

    model, optimizer: on the device and in the format that the factory was asked for; the optimizer's parameters are the
    model's. loss: called with the model and a batch, within autocast if that is given. batches: a sequence, the same
    whenever the factory is called; a step takes one, or `accumulation` of them, whose losses it averages.
    clip_grad_norm: the largest norm of all gradients together. autocast: the format of `torch.autocast`.
    grad_scaler, schedule: made with the optimizer; the schedule moves on after every step. step: all of a step, in
    place of loss, autocast, accumulation and clip_grad_norm; it calls its grad_scaler and schedule itself, which are
    given here so that what they count is carried from step to step.

    Over ranks: ranks_loss: what the ranks' losses make together, "mean", "sum", or the mean weighted by what this gives
    for a batch, such as its documents or tokens; it is found out, and not judged, where nobody says so. reduces_in: the
    format that gradients are reduced over ranks in, where it is shorter than their own.

    UsageError where these do not fit each other.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss | None = None
    batches: Sequence[Any] = ()
    clip_grad_norm: float | None = None
    autocast: str | torch.dtype | None = None
    accumulation: int = 1
    grad_scaler: torch.amp.GradScaler | None = None
    schedule: Any = None
    step: StepOfOnesOwn | None = None
    ranks_loss: str | Callable[[Any], float] | None = None
    reduces_in: str | None = None

    def __post_init__(self) -> None:
        self.largest_norm = 0.0
        """Of all gradients together, over the steps so far; known where they are to be clipped."""
        if not isinstance(self.model, nn.Module):
            raise UsageError(f"A Training's model is a torch.nn.Module, not {_kind(self.model)}.")
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise UsageError(f"A Training's optimizer is a torch.optim.Optimizer, not {_kind(self.optimizer)}.")
        if (self.loss is None) == (self.step is None):
            raise UsageError("A Training needs either a loss(model, batch) or a step(model, optimizer, batch).")
        if self.accumulation < 1:
            raise UsageError(f"accumulation is {self.accumulation}, and at least 1.")
        if self.step is not None and (self.accumulation > 1 or self.clip_grad_norm or self.autocast):
            raise UsageError("With a step of its own a Training takes no accumulation, clip_grad_norm or autocast.")
        if not isinstance(self.batches, Sequence):
            raise UsageError(f"A Training's batches are a list, to be gone through again, not {_kind(self.batches)}.")
        if not self.batches:
            raise UsageError("A Training's batches are an empty list; it needs at least one.")
        if self.step is None and _asks_for_closure(self.optimizer):
            raise UsageError(
                f"{type(self.optimizer).__name__} calls for a closure that gives the loss, which a check cannot take "
                "apart."
            )
        if self.schedule is None and getattr(self.optimizer.step, "_wrapped_by_lr_sched", False):
            raise UsageError(
                "A schedule drives the optimizer: give it as schedule=, too, so that every step begins from its state."
            )
        if isinstance(self.ranks_loss, str) and self.ranks_loss not in ("mean", "sum"):
            raise UsageError(f"ranks_loss is {self.ranks_loss!r}; it is mean, sum, or a function of a batch.")
        if self.reduces_in is not None and self.reduces_in not in FORMATS:
            raise UsageError(f"reduces_in is {self.reduces_in!r}; it is a format such as bfloat16.")
        self.autocast_dtype()
        self._require_its_own_parameters()

    @property
    def steps(self) -> int:
        """How many steps the batches last for."""
        return len(self.batches) // self.accumulation

    @property
    def device(self) -> torch.device:
        """Where the first parameter lies."""
        return next(self.model.parameters()).device

    def autocast_dtype(self) -> torch.dtype | None:
        """The format of autocast, or None; UsageError for what is none."""
        if self.autocast is None or isinstance(self.autocast, torch.dtype):
            return self.autocast
        found = getattr(torch, self.autocast, None) if isinstance(self.autocast, str) else None
        if not isinstance(found, torch.dtype):
            raise UsageError(f"autocast is {self.autocast!r}; it is a format such as bfloat16.")
        return found

    def take_step(self, number: int) -> Tensor | None:
        """The step of a number, beginning with 0: forward, backward and update. Its loss, if it has one."""
        if self.step is not None:
            return self.step(self.model, self.optimizer, self.batches[number])
        self.optimizer.zero_grad()
        losses = [self._accumulate(batch) for batch in self.batches_of(number)]
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        if self.clip_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
            self.largest_norm = max(self.largest_norm, norm.item())
        if self.grad_scaler is not None:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return torch.stack(losses).mean() if len(losses) > 1 else losses[0]

    def batches_of(self, number: int) -> Sequence[Any]:
        """Those that a step takes."""
        return self.batches[number * self.accumulation : (number + 1) * self.accumulation]

    def _accumulate(self, batch: Any) -> Tensor:
        assert self.loss is not None
        with self._autocast():
            loss = self.loss(self.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else _kind(loss)
            raise UsageError(f"The loss is {shape}; a Training's loss(model, batch) gives a scalar tensor.")
        mean = loss / self.accumulation if self.accumulation > 1 else loss
        (mean if self.grad_scaler is None else self.grad_scaler.scale(mean)).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = self.autocast_dtype()
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def _require_its_own_parameters(self) -> None:
        own = {id(parameter) for parameter in self.model.parameters() if parameter.requires_grad}
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        if not own:
            raise UsageError("The model has no parameters to train.")
        if any(id(parameter) not in own and parameter.requires_grad for parameter in trained):
            raise UsageError("The optimizer trains parameters that the model lacks: was it made of another model?")


def _asks_for_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _kind(x: Any) -> str:
    name = type(x).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
