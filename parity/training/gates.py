"""ReLUs and maxima as the program itself decided them, for its run on shadows.

Rounding decides whether an input within the noise floor of zero passes a ReLU, and a gate decided the other way is no
small difference. So shadows take the program's own gates, recorded as it ran; where these differ from what exact
arithmetic has, the input must lie within its own noise floor of zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from parity.oracle.shadows.noise import Noise

_RELUS = ("relu", "relu_")
_POOLS = ("max_pool2d_with_indices",)


@dataclass
class _Turned:
    """Gates of one ReLU that exact arithmetic has the other way: places, inputs there, and how far these spread."""

    places: Tensor
    inputs: Tensor
    squares: Tensor
    replicas: int = 0


@dataclass
class _OfStep:
    decisions: list[Tensor] = field(default_factory=list)
    """In the order of computation, of a ReLU whether each input passes; of a maximum the place that it was at."""
    turned: dict[int, _Turned] = field(default_factory=dict)
    exact: dict[int, Tensor] = field(default_factory=dict)
    """Where the program did not show its own, those of exact arithmetic."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, decisions: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.decisions = decisions

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _RELUS:
            self.decisions.append((out > 0).detach())
        elif name in _POOLS:
            self.decisions.append(out[1].detach())
        return out


class Gates:
    """The gates of a step, or of several that follow each other."""

    def __init__(self) -> None:
        self._steps = [_OfStep()]
        self._now = 0
        self.turned = 0
        """How many were decided the other way, over all steps."""
        self.largest_z = 0.0
        """Of an input that was decided the other way: its distance from zero over its noise floor."""
        self.near = 0
        """How many replicas decided otherwise than exact arithmetic, where the program did not show its own."""
        self.mismatched = False
        """Whether the run on shadows asks for other gates than the program had; then it decides all by itself."""

    def begin_anew(self, steps: int) -> None:
        """Of so many steps that follow each other."""
        self.settle()
        self._steps, self._now = [_OfStep() for _ in range(steps)], 0

    def at(self, step: int) -> None:
        """Go to the gates of one of the steps."""
        self._now = step

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record those of the step that is taken within."""
        if len(self._steps) == 1:
            self.settle()
            self._steps = [_OfStep()]
        of_step = self._steps[self._now]
        with _Recorder(of_step.decisions):
            yield
        if self._now < len(self._steps) - 1:
            self._now += 1

    def replayed(self, noise: Noise | None) -> "Replay":
        """The gates of a step, for a run on shadows."""
        return Replay(self, self._steps[self._now], noise)

    @property
    def turned_now(self) -> bool:
        """Whether some of the step at hand were decided the other way."""
        return bool(self._steps[self._now].turned)

    def settle(self) -> None:
        """Sum up what became of the gates so far."""
        for of_step in self._steps:
            for turned in of_step.turned.values():
                floor = (turned.squares / max(1, turned.replicas)).sqrt()
                z = torch.where(turned.inputs == 0, 0.0, turned.inputs.abs() / floor)
                self.turned += z.numel()
                self.largest_z = max(self.largest_z, float(z.max()))
            of_step.turned = {}


class Replay:
    """The gates of a step, asked for one after another as the step is run on shadows."""

    def __init__(self, gates: Gates, of_step: _OfStep, noise: Noise | None) -> None:
        self._gates, self._of_step, self._noise = gates, of_step, noise
        self._next = 0

    def relu(self, x: Tensor) -> Tensor | None:
        """Which inputs pass, in float64 (…); None where that is not known."""
        number, decision = self._decision(x.shape)
        if decision is None:
            if self._noise is None:
                self._of_step.exact[number] = x > 0
            elif number in self._of_step.exact and self._of_step.exact[number].shape == x.shape:
                self._gates.near += int(((x > 0) != self._of_step.exact[number]).sum())
            return None
        known = self._of_step.turned
        if self._noise is None:
            places = ((x > 0) != decision).flatten().nonzero().squeeze(1)
            if len(places) and number not in known:
                inputs = x.flatten()[places]
                known[number] = _Turned(places, inputs, torch.zeros_like(inputs))
        elif number in known:
            turned = known[number]
            turned.squares += (x.flatten()[turned.places] - turned.inputs) ** 2
            turned.replicas += 1
        return decision

    def maximum(self, shape: torch.Size) -> Tensor | None:
        """Where the maxima were."""
        return self._decision(shape)[1]

    def _decision(self, shape: torch.Size) -> tuple[int, Tensor | None]:
        number = self._next
        self._next += 1
        decisions = self._of_step.decisions
        if number >= len(decisions) or decisions[number].shape != shape:
            self._gates.mismatched |= bool(decisions)
            return number, None
        return number, decisions[number]
