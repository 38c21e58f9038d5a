"""ReLUs and maxima: decided by the numbers, or as an execution is told that the program itself decided them."""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from parity.oracle.shadows.shadow import Shadow, inner_of

if TYPE_CHECKING:
    from parity.oracle.shadows.execution import Execution


class Decided(Protocol):
    """Decisions of a program, asked for in the order of its operations; None where one is not known."""

    def relu(self, x: Tensor) -> Tensor | None:
        """Which of the inputs of a ReLU pass; of their shape."""

    def maximum(self, shape: torch.Size) -> Tensor | None:
        """The places of maxima in the planes that they are of; of the shape of the result."""


def _relu(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0]
    if not isinstance(x, Shadow):
        return func(*args, **kwargs)
    passes = None if execution.gates is None else execution.gates.relu(x.held)
    out = x.held.clamp_min(0) if passes is None else x.held * passes
    if func.overloadpacket.__name__ == "relu":
        return Shadow(out, x.dtype)
    x.held.copy_(out)
    return x


def _relu_backward(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    grad, out, threshold = args
    held = inner_of(out)
    # An input below zero that the program let pass is below zero behind its gate as well.
    passes = held != 0 if threshold == 0 and execution.gates is not None else held > threshold
    return Shadow(inner_of(grad) * passes, grad.dtype)


def _max_pool(execution: "Execution", func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0]
    held = inner_of(x)
    out, places = func(held, *args[1:], **kwargs)
    given = None if execution.gates is None else execution.gates.maximum(out.shape)
    if given is not None:
        places = given
        out = held.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)
    return Shadow(out, x.dtype), places


SPECIAL: dict[str, Any] = {
    "relu": _relu,
    "relu_": _relu,
    "threshold_backward": _relu_backward,
    "max_pool2d_with_indices": _max_pool,
}
