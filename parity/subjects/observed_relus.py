"""What the ReLUs of a PyTorch subject are given, observed while it runs in this process: nothing need be declared."""

from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from parity.number_formats import Floats

_RELUS = {
    torch.ops.aten.relu.default,
    torch.ops.aten.relu_.default,
    torch.ops.aten.clamp.default,
    torch.ops.aten.clamp_.default,
    torch.ops.aten.clamp_min.default,
    torch.ops.aten.clamp_min_.default,
    torch.ops.aten.threshold.default,
    torch.ops.aten.threshold_.default,
}
"""Operations that a ReLU may be; what is no ReLU among them matches none of the reference's."""


class ReluObserver:
    """While it is entered, keeps what ReLUs of a width are given: every vector along a dimension of that size.

    Other threads and other processes are not seen. Compiled functions are: torch calls what they were compiled from.
    """

    def __init__(self, width: int) -> None:
        self._mode = _Mode(width)

    def __enter__(self) -> Self:
        # Called for the first time while a mode is active, a function would not be compiled from then on either.
        self._eager = torch.compiler.set_stance("force_eager")
        self._eager.__enter__()
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._mode.__exit__(kind, error, place)  # type: ignore[no-untyped-call]
        self._eager.__exit__(kind, error, place)

    @property
    def inputs(self) -> Floats | None:
        """All that was seen, (vectors, width); None where nothing was."""
        return torch.cat(self._mode.seen).numpy() if self._mode.seen else None


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, width: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.width = width
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _RELUS and self.width in args[0].shape and not _recorded(args[0]):
            # The last dimension, if it has the size; where documents lie innermost it is another one.
            dimension = len(args[0].shape) - 1 - list(reversed(args[0].shape)).index(self.width)
            vectors = args[0].detach().movedim(dimension, -1).reshape(-1, self.width)
            self.seen.append(vectors.to("cpu", torch.float64, copy=True))
        return function(*args, **(kwargs or {}))


def _recorded(tensor: Tensor) -> bool:
    """Whether a CUDA graph is being recorded, which nothing can be copied out of."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
