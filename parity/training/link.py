"""A training beside another one: both in exact arithmetic, from the same state, with the same gradients to update by.

What rounding hides from anybody who looks at the runs themselves shows here: between two exact runs there is but the
rounding of float64. That the training is what it is in exact arithmetic, as far as its formats allow, is the other
half, and held by its own run.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parity.errors import UsageError
from parity.quantities import SITES, TensorKey
from parity.training.comparison import TrainingJudge, TrainingMode
from parity.training.names import Names
from parity.training.observation import called, calls_of
from parity.training.other import Other, digests, numbered, with_numbers
from parity.training.running import Runs, Step
from parity.training.spread import Floor
from parity.training.state import State
from parity.verdict import FALSE_ALARM
from parity.words import counted

MUCH_WIDER = 4.0
"""How many times as wide as the other training's a floor must be to be called a loss of precision."""

MANY = 64
"""Elements of a tensor over which the chances of replicas even out."""


class Link:
    """A subject's runs, and another training that it is held to. names: the subject's for the other's, see `Names`.

    UsageError where their parameters or batches do not fit each other.
    """

    def __init__(self, runs: Runs, name: str, other: Other, names: dict[str, object], steps: int) -> None:
        self.name, self.other = name, other
        found = other.describe(steps)
        own = {n: tuple(numbers.held.shape) for n, numbers in runs.start.params.items()}
        self.names = Names(names, own, found.shapes, found.tied)
        require_same_batches(digests(runs.native, steps), found.batches, name)
        start = {key: x for key, x in self.names.to_own(found.start).items() if key.quantity != "buffer"}
        self.start: State = with_numbers(runs.start, start).rounded()
        self.wider: dict[str, list[float]] = {}
        """By quantity, how many times as wide as the other's the floor of each tensor is."""
        self._replicas = runs.replicas
        self.only_here: set[str] = set()
        self.only_there: set[str] = set()
        self.moved: set[str] = set()
        """Sites that differ while loss, outputs, gradients and update do not: work has moved between modules."""

    def compare(self, found: TrainingMode, step: Step, judge: TrainingJudge) -> None:
        """Take the other training's exact step from where the subject's began, and compare it with the subject's."""
        gradients = {TensorKey("grad", name): x for name, x in step.actual.gradients().items()}
        given = {key.name: x for key, x in self.names.to_other(gradients).items()}
        answer = self.other.step(step.number, self.names.to_other(self._state(step.start)), given)
        expected = self.names.to_own(answer.expected.tensors)
        there, own_there = self.names.to_own(answer.wide_floor), self.names.to_own(answer.floor)
        step.plain.dtypes |= step.actual.dtypes  # which shows no modules where these are compiled
        step.plain.modules |= step.actual.modules
        floor = {key: _hypot(wide, there.get(key)) for key, wide in step.wide_floor.items()}
        calls = calls_of(step.plain), calls_of(answer.expected)
        shared = {
            key: x
            for key, x in expected.items()
            if key in step.plain.tensors and x.shape == step.plain.tensors[key].shape and _as_often(key, *calls)
        }
        self.only_here |= {key.described() for key in step.plain.tensors if key not in shared}
        self.only_there |= {key.described() for key in expected if key not in shared}
        found.take(step.number, step.plain, self._of_the_function(step, shared, floor, judge), floor, judge)
        self._widen({key: step.floor[key] for key in shared if key in step.floor}, own_there)

    def _state(self, state: State) -> dict[TensorKey, Tensor]:
        """What the other training is set to: all but buffers that no step has changed, constants of a program's own."""
        unchanged = numbered(self.start)
        return {
            key: x
            for key, x in numbered(state).items()
            if key.quantity != "buffer" or key not in unchanged or not torch.equal(x, unchanged[key])
        }

    def _of_the_function(
        self, step: Step, shared: dict[TensorKey, Tensor], floor: Floor, judge: TrainingJudge
    ) -> dict[TensorKey, Tensor]:
        """What is compared, without the sites that differ where nothing but sites does."""
        trial = TrainingMode("exact arithmetic")
        trial.take(step.number, step.plain, shared, floor, judge)
        sites = {wrong.key for wrong in trial.wrong}
        if not all(key.quantity in SITES for key in sites):
            return shared
        self.moved |= {key.described() for key in sites}
        return {key: x for key, x in shared.items() if key not in sites}

    def _widen(self, own: Floor, other: Floor) -> None:
        for key, floor in own.items():
            there = other.get(key)
            if there is None or there.shape != floor.shape:
                continue
            here, base = (float(x.double().square().mean().sqrt()) if x.numel() else 0.0 for x in (floor, there))
            if here > 0 and base > 0 and (floor.numel() >= MANY or here / base > self._by_chance()):
                self.wider.setdefault(key.quantity, []).append(here / base)

    def _by_chance(self) -> float:
        """How many times as wide a floor of a few elements may seem and not be, since it is taken of a few replicas."""
        from scipy.special import fdtri

        # The upper quantile of F is one over the lower one with the degrees of freedom the other way round.
        return math.sqrt(1 / float(fdtri(min(8, self._replicas), self._replicas, FALSE_ALARM)))

    def losses(self) -> dict[str, float]:
        """The quantities whose floors are much wider than the other's, and how many times, in the geometric mean."""
        means = {quantity: math.exp(sum(map(math.log, found)) / len(found)) for quantity, found in self.wider.items()}
        return {quantity: mean for quantity, mean in means.items() if mean > MUCH_WIDER}


def require_same_batches(own: Sequence[str], other: Sequence[str], name: str) -> None:
    """UsageError where the digests of the batches of some step are not those of the other training so named."""
    for k, (here, there) in enumerate(zip(own, other)):
        if here != there:
            raise UsageError(
                f"The batches of step {k} are not those of {name}; the factories are to give the same ones, drawn from "
                "a seed of their own."
            )
    if len(other) < len(own):
        raise UsageError(f"{name} has batches for {counted(len(other), 'step')}, and {len(own)} are compared.")


def _as_often(key: TensorKey, here: Mapping[tuple[str, str], int], there: Mapping[tuple[str, str], int]) -> bool:
    """Whether both have a site as often: what one has of a whole batch is not what the other has of its parts."""
    place = (key.quantity, called(key))
    return key.quantity not in ("site", "site grad", "output") or here[place] == there[place]


def _hypot(own: Tensor, other: Tensor | None) -> Tensor:
    if other is None or other.shape != own.shape:
        return own
    return torch.hypot(own.double(), other.to(own.device, torch.float64))
