"""The noise floor around what is expected: the spread of noisy replays, and the ReLUs that rounding may turn."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.number_formats import Floats, Format
from parity.oracle import exact_kernels as kernels
from parity.oracle.noisy_replay import Noise
from parity.oracle.replay import Gates, Outcome, Replay, program
from parity.oracle.spread import deviation, near_kinks
from parity.tensors import TensorViews
from reference.config import Config, Hyper, State, Step

Kink = tuple[int, int]
"""A ReLU of a step: its document and its slot."""


@dataclass(frozen=True)
class Nearness:
    """How near a ReLU is to its kink.

    distance: of its input from zero, in standard deviations. noise: of the gradient that its gate lets through or not,
    relative to it.
    """

    distance: float
    noise: float


@dataclass(frozen=True)
class Point:
    """Where the exact and the noisy replays of a run stand."""

    exact: Floats
    noisy: Floats
    number: int


@dataclass(frozen=True)
class Known:
    """The first step that a floor was asked for, which two modes ask for alike."""

    start: Floats
    question: tuple[Any, ...]
    answer: tuple[Step, dict[Kink, Nearness]]
    after: Point
    bits: Any


LARGEST_KNOWN = 2**26
"""Bytes of the replicas' tensors up to which a step is kept."""


class Floor:
    """The noise floor of a run in a number format: the spread of noisy replays around the exact one.

    The noise begins anew with every `load`, so that what is loaded decides all that follows.
    """

    known: Known | None = None

    def __init__(self, config: Config, hyper: Hyper, form: Format) -> None:
        self.config, self.hyper, self.form = config, hyper, form
        self.noise = Noise(config, hyper, form)
        self.replay = Replay(config, hyper)
        self.smooth = config.activation == "relu2"
        self.expose_sites = self.loaded = False

    def load(self, state: State) -> None:
        """Start the exact replay and all replicas from the same state."""
        self.noise.load(state)
        self.replay.load(state)
        self.loaded = True

    @property
    def point(self) -> Point:
        """Where the run stands."""
        return Point(self.replay.tensors, self.noise.tensors, self.noise.number)

    @point.setter
    def point(self, point: Point) -> None:
        self.replay.tensors, self.noise.tensors = point.exact, point.noisy
        self.replay.number = self.noise.number = point.number

    @property
    def state(self) -> State:
        """Where the exact replay stands."""
        return self.replay.state

    def exact(self, point: Point, batch: list[list[int]], turned: Iterable[Kink]) -> Step | None:
        """The exact step from a point with some ReLUs decided otherwise; None where Python would have raised."""
        here, self.point = self.point, point
        self.replay.expose_sites = self.expose_sites
        outcome = self.replay.outcome(batch)
        if outcome is not None and turned:
            outcome = self.replay.outcome(batch, _turned(outcome, turned))
        self.point = here
        return None if outcome is None else outcome.as_step(self.config, self.expose_sites)

    def train_step(
        self, batch: list[list[int]], limit: float, turned: Iterable[Kink] = (), exact: Outcome | None = None
    ) -> tuple[Step, dict[Kink, Nearness]]:
        """The standard deviation of every element of one step, and the ReLUs at their kink.

        Those are the ones whose input lies within limit standard deviations of zero. All replicas take the exact
        replay's decisions, but for those turned. exact: the exact step from here, where it is known already.
        """
        start, question = self.replay.tensors, (self.noise.number, batch, limit, self.expose_sites)
        first, self.loaded = self.loaded and not turned, False
        if first and self.known and self.known.question == question and np.array_equal(self.known.start, start):
            self.point, self.noise.bits = self.known.after, self.known.bits.copy()
            return self.known.answer
        answer = self._train_step(batch, limit, turned, exact)
        if first and self.known is None and self.noise.tensors.nbytes <= LARGEST_KNOWN:
            self.known = Known(start, question, answer, self.point, self.noise.bits.copy())
        return answer

    def _train_step(
        self, batch: list[list[int]], limit: float, turned: Iterable[Kink], exact: Outcome | None
    ) -> tuple[Step, dict[Kink, Nearness]]:
        self.noise.expose_sites = self.replay.expose_sites = self.expose_sites
        if exact is None or not np.array_equal(exact.before, self.replay.tensors):
            exact = self.replay.outcome(batch)
        gates = None
        if exact is not None:
            gates = _turned(exact, turned)
            exact = self.replay.outcome(batch, gates) if turned else exact
        if self.smooth and exact is not None:
            gates = _only(exact, turned)
        outcome = self.noise.train_step(batch, gates)
        kinks: dict[Kink, Nearness] = {}
        if exact is not None:
            self.replay.move_on(exact)
            for number, (one, many) in enumerate(zip(exact.documents, outcome.documents, strict=True)):
                sides = one.values, one.grads, many.values, many.grads
                for slot, distance, noise in zip(*near_kinks(one.program.relus, *sides, limit), strict=True):
                    kinks[number, int(slot)] = Nearness(float(distance), float(noise))
        return self._spread(outcome), kinks

    def _spread(self, outcome: Outcome) -> Step:
        """The standard deviation of every element."""
        grads, params, m, v = (TensorViews(self.config, deviation(part)) for part in (outcome.grads, *outcome.after))
        logits = [_deviations(document.values[document.program.logits]) for document in outcome.documents]
        step = Step(float(deviation(outcome.loss[None])[0]), logits, grads, params, m, v)
        if self.expose_sites:
            samples = outcome.as_step(self.config, sites=True)
            step.sites, step.site_grads = _deviations(samples.sites), _deviations(samples.site_grads)
        return step

    def own_update(
        self, number: int, previous: Floats, grads: Floats
    ) -> tuple[list[dict[str, Floats]], list[dict[str, Floats]]]:
        """Adam alone on given gradients, (elements,), from given parameters, m and v, (3, elements).

        The new parameters, m and v by name, and the noise floor of this update.
        """
        exact = self.replay.adam(number, previous, grads)
        samples = self.noise.adam(number, self.noise.repeated(previous), self.noise.repeated(grads))
        after = samples[:, :, 0] if exact is None else exact
        spread = [deviation(part) for part in samples]
        return [TensorViews(self.config, part) for part in after], [TensorViews(self.config, part) for part in spread]

    def adopt(self, part: int, tensor: str, delta: Floats) -> None:
        """Move a tensor of the run: part 0 for the parameters, 1 and 2 for m and v."""
        self.replay.tensors, self.noise.tensors = self.replay.tensors.copy(), self.noise.tensors.copy()
        TensorViews(self.config, self.replay.tensors[part])[tensor] += delta
        TensorViews(self.config, self.noise.tensors[part])[tensor] += delta[..., None]


def site_elements(config: Config, n: int) -> int:
    """How many elements the sites of a document with n positions have, gradients included."""
    slots = program(config, n).site_slots.values()
    return 2 * (sum(len(of_site) for of_site in slots) + n * config.vocab_size)


def _only(outcome: Outcome, kinks: Iterable[Kink]) -> Gates:
    """All gates left to the replicas, but for some that are open."""
    gates = [np.zeros_like(document.gates) for document in outcome.documents]
    for number, slot in kinks:
        gates[number][slot] = kernels.OPEN
    return gates


def _turned(outcome: Outcome, kinks: Iterable[Kink]) -> Gates:
    """The gates of a step, some of them turned."""
    gates = [document.decisions() for document in outcome.documents]
    for number, slot in kinks:
        gates[number][slot] = kernels.CLOSED if gates[number][slot] == kernels.OPEN else kernels.OPEN
    return gates


def _deviations(value: Any) -> Any:
    """Samples, replicas last, as standard deviations."""
    if isinstance(value, dict):
        return {name: _deviations(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_deviations(entry) for entry in value]
    return deviation(value.reshape(-1, value.shape[-1])).reshape(value.shape[:-1])
