"""Another training as what a subject is held to: its exact step, from the subject's state and gradients."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from parity.oracle.shadows.noise import Noise
from parity.progress import each
from parity.quantities import TensorKey
from parity.training.observation import Observed, Replacement
from parity.training.running import Factory, Runs, seed_of
from parity.training.spread import Floor, Spread
from parity.training.state import Numbers, State, load_state, state_of, tied_names
from parity.training.training import Training

Numbered = dict[TensorKey, Tensor]
"""Parameters, buffers and optimizer's state of a training by quantity and name, in float64."""


@dataclass
class Answer:
    """An exact step, the floor of exact arithmetic itself, and that of the training's own formats."""

    expected: Observed
    wide_floor: Floor
    floor: Floor


@dataclass
class Description:
    """What another training is made of: shapes of its parameters, in order, and a digest of each step's batches.

    tied: other names of tied parameters, each with the one that shapes has.
    """

    shapes: dict[str, tuple[int, ...]]
    batches: list[str]
    start: Numbered
    tied: dict[str, str] = field(default_factory=dict)


class Other(Protocol):
    """Another training, in this process or another one."""

    def describe(self, steps: int) -> Description:
        """What it is made of, and how it starts."""

    def step(self, number: int, start: Numbered, gradients: dict[str, Tensor]) -> Answer:
        """Its exact step from a state, with the subject's own gradients for its optimizer."""


class OtherHere:
    """Another training in this process. replicas: of each floor."""

    def __init__(self, factory: Factory, *, replicas: int, sites: bool) -> None:
        self.runs = Runs(factory, replicas, sites=sites)
        self.state = self.runs.start
        """As it stands before the next step: what the subject does not give, such as a schedule's count, is its own."""

    def describe(self, steps: int) -> Description:
        """See `Other`."""
        shapes = {name: tuple(numbers.held.shape) for name, numbers in self.runs.start.params.items()}
        return Description(
            shapes, digests(self.runs.native, steps), numbered(self.runs.start), tied_names(self.runs.native)
        )

    def step(
        self, number: int, start: Numbered, gradients: dict[str, Tensor], progress: Callable[[], None] = lambda: None
    ) -> Answer:
        """See `Other`; progress: called after every replica."""
        state = with_numbers(self.state, start)
        given = Replacement(gradients, everywhere=True)

        def taken(noise: Noise | None, seen: Observed | None = None) -> Observed:
            load_state(self.runs.on_shadows, state)
            return self.runs.on(noise, number, given, forced=False, seen=seen)

        expected = taken(None)
        self.state = state_of(self.runs.on_shadows)
        floors = []
        for wide in (True, False):
            spread = Spread(expected, wide=wide)
            replicas = range(self.runs.replicas if wide else min(8, self.runs.replicas))
            for replica in each("the other: replicas", replicas):
                with spread.replica() as seen:
                    taken(Noise(seed_of(replica + 1000, number), wide=wide), seen)
                progress()
            floors.append(spread.floor)
        return Answer(expected, *floors)


def numbered(state: State) -> Numbered:
    """The numbers of a state."""
    found = {TensorKey("param", name): numbers.held for name, numbers in state.params.items()}
    found |= {TensorKey("grad", name): numbers.held for name, numbers in state.grads.items()}
    found |= {TensorKey("buffer", name): x.held for name, x in state.buffers.items() if isinstance(x, Numbers)}
    for name, kept in state.optimizer.items():
        found |= {TensorKey(k, name): x.held for k, x in kept.items() if isinstance(x, Numbers)}
    return {key: x.double() for key, x in found.items() if not x.is_complex()}


def with_numbers(state: State, numbers: Numbered) -> State:
    """A state with other numbers where they are given, in the formats that it has them in.

    What an optimizer keeps of a parameter and has not kept before lies in the parameter's own format.
    """

    def given(quantity: str, name: str, x: Any) -> Any:
        new = numbers.get(TensorKey(quantity, name))
        if new is None or not isinstance(x, Numbers) or new.shape != x.held.shape:
            return x
        return Numbers(new.to(x.held.device), x.dtype)

    params = {name: given("param", name, x) for name, x in state.params.items()}
    optimizer = {name: dict(kept) for name, kept in state.optimizer.items()}
    for name, kept in optimizer.items():
        for k, x in kept.items():
            kept[k] = given(k, name, x)
    buffers = {name: given("buffer", name, x) for name, x in state.buffers.items()}
    # Where it leaves none itself, as when they are zeroed at the end of a step, none are added to.
    grads = {name: given("grad", name, x) for name, x in state.grads.items()}
    return State(params, buffers, optimizer, grads, state.groups, state.others)


def digests(training: Training, steps: int) -> list[str]:
    """A digest of the batches of each step, as far as they are tensors, numbers and texts."""
    size = training.accumulation
    return [_digest(training.batches[k * size : (k + 1) * size]) for k in range(min(steps, training.steps))]


def _digest(batches: Sequence[Any]) -> str:
    found = hashlib.sha256()
    for leaf in tree_flatten([dict(b) if hasattr(b, "keys") else b for b in batches])[0]:
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            found.update(leaf.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
        elif isinstance(leaf, (int, float, str, bool)):
            found.update(repr(leaf).encode())
    return found.hexdigest()
