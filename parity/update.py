"""Adam recorded from the reference, one element for all: `reference.microgpt.adam` is elementwise.

`Element` stands for a scalar that differs from one parameter to the next, and records what is done to it; `Shared`
stands for one that all parameters share (the rate, the corrections), and is computed at once, exactly and for every
noisy replica.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import microgpt
from reference.config import Hyper, State

PLUS, MINUS, TIMES, DIVIDE, POWER = range(5)

Floats = NDArray[np.float64]
Perturb = Callable[[Any], Any]
"""Adds rounding noise to an array of results."""

P, G, M, V = range(4)
"""The registers that hold a parameter, its gradient and its moments before the update."""


@dataclass
class Shared:
    """A scalar of the update: its exact value, and the values that the noisy replicas, if any, have of it."""

    exact: float
    noisy: Floats | float
    perturb: Perturb

    def _combined(self, function: Callable[[Any, Any], Any], other: Any, swapped: bool = False) -> Any:
        if isinstance(other, Element):
            return NotImplemented
        exact, noisy = (other.exact, other.noisy) if isinstance(other, Shared) else (other, other)
        if swapped:
            return Shared(function(exact, self.exact), self.perturb(function(noisy, self.noisy)), self.perturb)
        return Shared(function(self.exact, exact), self.perturb(function(self.noisy, noisy)), self.perturb)

    def __mul__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a * b, other)

    def __rsub__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a - b, other, swapped=True)

    def __pow__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a**b, other)


@dataclass
class Update:
    """The recorded operations on one element, in order, and what they need.

    code: (operation, result, left, right) per row; registers from 4 on hold results, negative ones the shared
    scalars. exact: (shared,), noisy: (shared, R). results: the registers of the new parameter, m and v.
    """

    code: NDArray[np.int64]
    exact: Floats
    noisy: Floats
    results: tuple[int, int, int]


@dataclass
class _Recorder:
    code: list[tuple[int, int, int, int]] = field(default_factory=list)
    shared: list[Shared] = field(default_factory=list)

    def operand(self, value: Any) -> int:
        if isinstance(value, Element):
            return value.register
        if not isinstance(value, Shared):
            value = Shared(float(value), float(value), lambda noisy: noisy)
        self.shared.append(value)
        return -len(self.shared)

    def add(self, operation: int, left: Any, right: Any) -> "Element":
        result = 4 + len(self.code)
        self.code.append((operation, result, self.operand(left), self.operand(right)))
        return Element(self, result)


@dataclass(frozen=True)
class Element:
    """One element of a tensor: the register that holds it."""

    recorder: _Recorder
    register: int

    def __add__(self, other: Any) -> "Element":
        return self.recorder.add(PLUS, self, other)

    def __sub__(self, other: Any) -> "Element":
        return self.recorder.add(MINUS, self, other)

    def __mul__(self, other: Any) -> "Element":
        return self.recorder.add(TIMES, self, other)

    def __rmul__(self, other: Any) -> "Element":
        return self.recorder.add(TIMES, other, self)

    def __truediv__(self, other: Any) -> "Element":
        return self.recorder.add(DIVIDE, self, other)

    def __pow__(self, other: Any) -> "Element":
        return self.recorder.add(POWER, self, other)


@dataclass(frozen=True)
class _SymbolicHyper:
    """What `adam` reads of Hyper, with its real numbers as shared scalars."""

    learning_rate: Shared
    beta1: Shared
    beta2: Shared
    eps_adam: Shared
    num_steps: int
    lr_schedule: str


@lru_cache(maxsize=16)
def _as_array(code: tuple[tuple[int, int, int, int], ...]) -> NDArray[np.int64]:
    return np.array(code, dtype=np.int64)


def record_update(hyper: Hyper, step: int, replicas: int, perturb: Perturb, rounded: bool) -> Update:
    """The update at a step. rounded: the hyper-parameters are not numbers of the format, and get noise, too."""

    def shared(value: float) -> Shared:
        noisy = np.full(replicas, value) if replicas else 0.0
        return Shared(value, perturb(noisy) if rounded else noisy, perturb)

    def average(beta: float) -> Shared:
        # m + (1 - beta) · (g - m) is a common way to write it, and gives beta the rounding error of 1 - beta.
        if beta == 0 or not replicas:
            return Shared(beta, np.full(replicas, beta) if replicas else 0.0, perturb)
        noisy = np.clip(1 - perturb(np.full(replicas, 1 - beta)), 0, 1)
        return Shared(beta, perturb(noisy) if rounded else noisy, perturb)

    recorder = _Recorder()
    p, g, m, v = (Element(recorder, register) for register in (P, G, M, V))
    symbolic: Any = _SymbolicHyper(
        learning_rate=shared(hyper.learning_rate),
        beta1=average(hyper.beta1),
        beta2=average(hyper.beta2),
        eps_adam=shared(hyper.eps_adam),
        num_steps=hyper.num_steps,
        lr_schedule=hyper.lr_schedule,
    )
    state = State({"w": [[p]]}, {"w": [[m]]}, {"w": [[v]]}, step)
    after = microgpt.adam(state, {"w": [[g]]}, symbolic)
    noisy = np.array([np.broadcast_to(value.noisy, replicas) for value in recorder.shared] if replicas else [])
    new_p, new_m, new_v = (tensors["w"][0][0].register for tensors in (after.params, after.m, after.v))
    return Update(
        code=_as_array(tuple(recorder.code)),
        exact=np.array([value.exact for value in recorder.shared]),
        noisy=noisy,
        results=(new_p, new_m, new_v),
    )
