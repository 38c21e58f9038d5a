"""A subject that is PyTorch, run in exact arithmetic behind its own number formats, or with their rounding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from typing_extensions import override

from parity.errors import SubjectError
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.oracle.shadows.shadow import WIDE, Shadow, inner_of
from parity.subjects.subject import Subject
from reference.config import State, Step


class OnShadows:
    """A subject whose tensors are shadows, which answers with what they hold, in float64.

    make: makes the subject, which is made and set to states without noise. noise: of its steps. `formats` are those
    that its steps had results in; `wrote_before`: whether it wrote to tensors that were there before it was made.
    Raises SubjectError where an answer is no tensor of PyTorch's.
    """

    dtype = "float64"

    def __init__(self, make: Callable[[], Subject], noise: Noise | None = None) -> None:
        self.noise = noise
        self.formats: set[torch.dtype] = set()
        self.read = False
        """Whether a step took numbers out of tensors, which are no tensors any more."""
        execution = _execution(noise if noise is not None and noise.given else None)
        with _on_shadows(execution):
            self.subject = make()
        self.wrote_before = execution.wrote_before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["subject"], name)

    @property
    def expose_sites(self) -> Any:
        """The subject's own; AttributeError where it has none."""
        return self.subject.expose_sites  # type: ignore[attr-defined]

    @expose_sites.setter
    def expose_sites(self, shown: bool) -> None:
        self.subject.expose_sites = shown  # type: ignore[attr-defined]

    def load(self, state: State) -> None:
        """Start from this state, which is exact."""
        execution = _execution()
        with _on_shadows(execution):
            self.subject.load(state)
        self.wrote_before |= execution.wrote_before

    def train_step(self, batch: list[list[int]]) -> Step:
        """The step, in float64; what the subject left out stays out."""
        execution = _execution(self.noise)
        with _on_shadows(execution) as constants:
            answer = self.subject.train_step(batch)
        self.formats |= execution.formats
        self.read |= constants is not None and constants.read
        self.wrote_before |= execution.wrote_before
        parts = {field.name: getattr(answer, field.name, None) for field in fields(Step)}
        tensors = [x for x in tree_leaves((parts["logits"], parts["grads"])) if not isinstance(x, (float, int))]
        if not any(isinstance(x, Shadow) for x in tensors) and not (constants and constants.read):
            raise SubjectError("Its answers are no tensors that PyTorch computed here.")
        return Step(**tree_map(_inside, parts))


class UnroundedConstants(TorchFunctionMode):
    """A mode in which constants that a program makes of Python's numbers are not rounded to their format.

    A weight of 1/3 is the reference's weight of 1/3, in whatever format; on shadows it need not be another number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read = False
        """Whether the program took numbers out of a tensor, which are no tensors any more."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _READERS and isinstance(args[0], Shadow):
            self.read = True
            with _disable_current_modes():
                return getattr(inner_of(args[0]).cpu().clone(), func.__name__)()
        if func in _RMS_NORMS:
            return _rms_norm(*args, **kwargs)
        if func is Tensor.__setitem__ and type(args[2]) is float and args[0].dtype in _SHORT:
            value = torch.tensor(args[2], dtype=torch.float64, device=args[0].device).to(args[0].dtype)
            return func(args[0], args[1], value)
        if func not in _MAKERS or any(isinstance(x, _ARRAYS) for x in args[_MAKERS[func] :]):
            return func(*args, **kwargs)
        dtype = kwargs.get("dtype") or (args[0].dtype if isinstance(args[0], Tensor) else None)
        if dtype is None:
            dtype = func(*args, **kwargs).dtype
        if dtype not in _SHORT:
            return func(*args, **kwargs)
        requires_grad = kwargs.pop("requires_grad", False)
        made = func(*args, **{**kwargs, "dtype": torch.float64}).to(dtype)
        return made.requires_grad_() if requires_grad else made


def _rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """As `torch.rms_norm`, which rounds eps to float32 before anybody sees it."""
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    mean_square = input.square().mean(tuple(range(-len(normalized_shape), 0)), keepdim=True)
    normed = input * (mean_square + eps).rsqrt()
    return normed if weight is None else normed * weight


_READERS = (Tensor.tolist, Tensor.numpy)
_RMS_NORMS = (torch.rms_norm, torch.nn.functional.rms_norm)
"""A mode is asked about a function of Python's alone, and not about what that calls."""

_SHORT = frozenset(WIDE) - {torch.float64, torch.complex64, torch.complex128}
_ARRAYS = (Tensor, np.ndarray, np.generic)
_MAKERS = {
    torch.tensor: 0,
    torch.as_tensor: 0,
    torch.asarray: 0,
    torch.scalar_tensor: 0,
    torch.full: 0,
    torch.full_like: 1,
    Tensor.new_tensor: 1,
    Tensor.new_full: 1,
}
"""What makes tensors of Python's numbers, and the place from which on its arguments are what goes into them."""


def _inside(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    with _disable_current_modes():
        x = x.detach()
        return (x.held if isinstance(x, Shadow) else x.double()).cpu().numpy().copy()


def _execution(noise: Noise | None = None) -> Execution:
    return Execution(noise, unrounded=noise is None or noise.wide)


@contextmanager
def _on_shadows(execution: Execution) -> Iterator[UnroundedConstants | None]:
    """Eagerly, with torch's random numbers as they were, in one thread: several wait for each other in small steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        eagerly = torch.compiler.set_stance("force_eager")
        constants = UnroundedConstants() if execution.unrounded else nullcontext()
        with torch.random.fork_rng(), eagerly, constants as mode, execution:
            yield mode
    finally:
        torch.set_num_threads(threads)
