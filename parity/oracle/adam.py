"""Adam recorded from the reference, one element for all: `reference.microgpt.adam` is elementwise.

`_Element` stands for a scalar that differs from one parameter to the next, and records what is done to it; `_Shared`
stands for one that all parameters share (the rate, the corrections), and is computed at once, exactly and for every
noisy replica.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats
from parity.oracle.rounding import average_weight
from reference import microgpt
from reference.config import Hyper, State

PLUS, MINUS, TIMES, DIVIDE, POWER = range(5)
"""The operations of a recorded update."""

PARAMETER, GRADIENT, FIRST_MOMENT, SECOND_MOMENT = range(4)
"""The registers that hold an element and its gradient and moments before the update."""

FIRST_RESULT = 4
"""The register that the first operation writes to; each one after it writes to the next."""


@dataclass
class Replicas:
    """What noisy replicas make of shared scalars, by the rules of `parity.oracle.rounding`."""

    number: int
    """How many replicas there are."""
    perturb: Callable[[Floats], Floats]
    """Adds the noise of shared scalars to an array of results."""
    perturb_given: Callable[[Floats], Floats]
    """The same for a number that somebody gave, which has the same rounding error at every step."""
    hypers_round: bool
    """As `parity.oracle.rounding.Rounding` has it."""
    known: dict[int, Floats] = field(default_factory=dict)
    """By the id of a `_Shared`, what it is: one number for each replica, however often it is used."""

    def values(self, shared: "_Shared") -> Floats:
        """The scalar of every replica, (R,)."""
        if id(shared) not in self.known:
            self.known[id(shared)] = shared.noisy(self)
        return self.known[id(shared)]

    def constant(self, value: float) -> Floats:
        """A number that is exact."""
        return np.full(self.number, value)

    def hyper(self, value: float) -> Floats:
        """A number that someone gave."""
        return self.perturb_given(self.constant(value)) if self.hypers_round else self.constant(value)

    def average(self, beta: float) -> Floats:
        """The weight of a moving average."""
        weight = average_weight(beta, self.number, self.perturb_given)
        return self.perturb_given(weight) if self.hypers_round and beta != 0 else weight


@dataclass(frozen=True, eq=False)
class _Shared:
    """A scalar of the update that all parameters share."""

    exact: float
    """Its exact value."""
    noisy: Callable[[Replicas], Floats]
    """How noisy replicas come by theirs, (R,)."""

    def _combined(self, function: Callable[[Any, Any], Any], other: Any, swapped: bool = False) -> Any:
        if isinstance(other, _Element):
            return NotImplemented
        other = other if isinstance(other, _Shared) else _constant(other)
        left, right = (other, self) if swapped else (self, other)
        return _Shared(
            function(left.exact, right.exact),
            lambda of: of.perturb(function(of.values(left), of.values(right))),
        )

    def __mul__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a * b, other)

    def __rsub__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a - b, other, swapped=True)

    def __pow__(self, other: Any) -> Any:
        return self._combined(lambda a, b: a**b, other)


def _constant(value: float) -> _Shared:
    """A number that is the same for all replicas."""
    return _Shared(float(value), lambda of: of.constant(float(value)))


@dataclass(frozen=True)
class Update:
    """The recorded operations on one element, in order, and what they need."""

    code: NDArray[np.int64]
    """(operations, 4): operation, and the registers of its result and of its left and right operand. Shared scalars
    have negative registers, from -1 down."""
    shared: tuple[_Shared, ...]
    """The shared scalars, in the order of their registers."""
    exact: Floats
    """Their exact values, (shared,)."""
    results: NDArray[np.int64]
    """The registers of the new parameter, m and v."""

    def noisy(self, replicas: Replicas) -> Floats:
        """The shared scalars of noisy replicas, (shared, R)."""
        return np.array([replicas.values(shared) for shared in self.shared])


@dataclass
class _Recorder:
    code: list[tuple[int, int, int, int]] = field(default_factory=list)
    shared: list[_Shared] = field(default_factory=list)

    def operand(self, value: Any) -> int:
        if isinstance(value, _Element):
            return value.register
        self.shared.append(value if isinstance(value, _Shared) else _constant(value))
        return -len(self.shared)

    def add(self, operation: int, left: Any, right: Any) -> "_Element":
        result = FIRST_RESULT + len(self.code)
        self.code.append((operation, result, self.operand(left), self.operand(right)))
        return _Element(self, result)


@dataclass(frozen=True)
class _Element:
    """One element of a tensor: the register that holds it."""

    recorder: _Recorder
    register: int

    def __add__(self, other: Any) -> "_Element":
        return self.recorder.add(PLUS, self, other)

    def __sub__(self, other: Any) -> "_Element":
        return self.recorder.add(MINUS, self, other)

    def __mul__(self, other: Any) -> "_Element":
        return self.recorder.add(TIMES, self, other)

    def __rmul__(self, other: Any) -> "_Element":
        return self.recorder.add(TIMES, other, self)

    def __truediv__(self, other: Any) -> "_Element":
        return self.recorder.add(DIVIDE, self, other)

    def __pow__(self, other: Any) -> "_Element":
        return self.recorder.add(POWER, self, other)


@dataclass(frozen=True)
class _SymbolicHyper:
    """What `adam` reads of Hyper, with its real numbers as shared scalars."""

    learning_rate: _Shared
    beta1: _Shared
    beta2: _Shared
    eps_adam: _Shared
    num_steps: int
    lr_schedule: str


@lru_cache(maxsize=1024)
def record_update(hyper: Hyper, step: int) -> Update:
    """The update at a step."""
    recorder = _Recorder()
    p, g, m, v = (_Element(recorder, register) for register in (PARAMETER, GRADIENT, FIRST_MOMENT, SECOND_MOMENT))
    symbolic: Any = _SymbolicHyper(
        learning_rate=_given(hyper.learning_rate),
        beta1=_average(hyper.beta1),
        beta2=_average(hyper.beta2),
        eps_adam=_given(hyper.eps_adam),
        num_steps=hyper.num_steps,
        lr_schedule=hyper.lr_schedule,
    )
    state = State({"w": [[p]]}, {"w": [[m]]}, {"w": [[v]]}, step)
    after = microgpt.adam(state, {"w": [[g]]}, symbolic)
    return Update(
        code=np.array(recorder.code),
        shared=tuple(recorder.shared),
        exact=np.array([shared.exact for shared in recorder.shared]),
        results=np.array([tensors["w"][0][0].register for tensors in (after.params, after.m, after.v)]),
    )


def _given(value: float) -> _Shared:
    return _Shared(value, lambda of: of.hyper(value))


def _average(beta: float) -> _Shared:
    return _Shared(beta, lambda of: of.average(beta))
