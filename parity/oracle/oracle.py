"""What is expected of a step, and its noise floor: asked of a point where a run stands, which stays as it is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import NoExpectation, UsageError
from parity.number_formats import Floats, Format
from parity.options import ORACLES
from parity.oracle import exact_kernels as kernels
from parity.oracle.noisy_replay import Noise
from parity.oracle.python_reference import Reference
from parity.oracle.replay import Gates, Outcome, Replay, program
from parity.oracle.spread import deviation, near_kinks
from parity.tensors import TensorViews, flat, listed_state, named_state, vectors
from parity.trees import mapped
from reference.config import Config, Hyper, State, Step

Gate = tuple[int, int]
"""A ReLU of a step: its document and its slot."""


@dataclass(frozen=True)
class Nearness:
    """How near the input of a ReLU is to zero, where rounding may give it either sign."""

    distance: float
    """Of the input from zero, in standard deviations."""
    noise: float
    """Of the gradient that the gate lets through or not, relative to it."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where a run stands, exactly and with noise."""

    number: int
    """Of the next step."""
    exact: Floats
    """Parameters, m and v, (3, elements)."""
    noisy: Floats
    """The same of every replica, (3, elements, R)."""
    generators: NDArray[np.uint32]
    """Of the random numbers to come."""

    def state(self, config: Config) -> State:
        """The exact state; its matrices are arrays."""
        return named_state(config, self.exact, self.number)


@dataclass(frozen=True, eq=False)
class Expectation:
    """What one step should give, how far rounding alone may take it from that, and where it leads."""

    before: Point
    batch: list[list[int]]
    step: Step
    sigma: Step
    """The standard deviation of every element over the replicas."""
    near: Mapping[Gate, Nearness]
    """The ReLUs whose input lies within limit standard deviations of zero."""
    turned: frozenset[Gate]
    """Those that are decided otherwise than the exact values would have them."""
    after: Point


_LARGEST_KEPT = 2**26
"""Bytes of the replicas' tensors up to which the first expectation is kept."""


class Oracle:
    """What is expected of one model in one number format.

    limit: the number of standard deviations that rounding explains. source: "replay", or "python" for the reference
    itself, step by step; both give the same bits. Noise begins anew at every `start`, so that what a run starts from
    decides all that follows. Raises UsageError for another source.
    """

    def __init__(self, config: Config, hyper: Hyper, form: Format, limit: float, source: str = "replay") -> None:
        if source not in ORACLES:
            raise UsageError(f"There is no oracle {source!r}; there are {' and '.join(ORACLES)}.")
        self.config, self.hyper, self.form, self.limit, self.source = config, hyper, form, limit, source
        self.smooth = config.activation == "relu2"
        self._noise = Noise(config, hyper, form)
        self._replay = Replay(config, hyper)
        self._first: tuple[Any, Expectation] | None = None

    def start(self, state: State) -> Point:
        """The point at which a run starts from a state: no replica has moved yet."""
        exact = vectors(self.config, state)
        return Point(state.step, exact, self._noise.repeated(exact), self._noise.seeds)

    def expect(
        self, point: Point, batch: list[list[int]], turned: Collection[Gate] = (), sites: bool = False
    ) -> Expectation:
        """The step from a point, with some ReLUs turned; with its sites, if they are asked for.

        Raises NoExpectation where the reference fails, or computes something other than finite numbers.
        """
        # The two modes of a check begin with the same question.
        fresh = point.generators is self._noise.seeds and not turned
        question = (point.number, batch, sites)
        if fresh and self._first and self._first[0] == question:
            first = self._first[1]
            if np.array_equal(first.before.exact, point.exact):
                return first
        expectation = self._expect(point, batch, frozenset(turned), sites)
        if fresh and self._first is None and point.noisy.nbytes <= _LARGEST_KEPT:
            self._first = question, expectation
        return expectation

    def _expect(self, point: Point, batch: list[list[int]], turned: frozenset[Gate], sites: bool) -> Expectation:
        exact = self._exact(point, batch, turned, sites)
        step, after = self._expected(point, batch, exact, turned, sites)
        if not turned:
            self._require_finite(point.number, step)
        gates = None
        if exact is not None:
            # Of a squared ReLU, replicas decide for themselves: it has no jump.
            gates = _opened(exact, turned) if self.smooth else [document.decisions() for document in exact.documents]
        noise = self._noise
        noise.expose_sites = sites
        noise.tensors, noise.number, noise.bits = point.noisy, point.number, point.generators.copy()
        noisy = noise.outcome(batch, gates)
        near = {} if exact is None else self._near(exact, noisy)
        end = Point(point.number + 1, after, noisy.after, noise.bits)
        return Expectation(point, batch, step, self._spread(noisy, sites), near, turned, end)

    def exact_step(
        self, point: Point, batch: list[list[int]], turned: Collection[Gate], sites: bool = False
    ) -> Step | None:
        """The exact step from a point with some ReLUs decided otherwise; None where Python would have raised."""
        outcome = self._exact(point, batch, turned, sites)
        return None if outcome is None else outcome.as_step(self.config, sites)

    def _exact(self, point: Point, batch: list[list[int]], turned: Collection[Gate], sites: bool) -> Outcome | None:
        replay = self._replay
        replay.expose_sites, replay.tensors, replay.number = sites, point.exact, point.number
        outcome = replay.outcome(batch)
        return replay.outcome(batch, _turned(outcome, turned)) if turned and outcome is not None else outcome

    def _expected(
        self, point: Point, batch: list[list[int]], exact: Outcome | None, turned: Collection[Gate], sites: bool
    ) -> tuple[Step, Floats]:
        """The expected step, and parameters, m and v after it."""
        if exact is not None and (self.source == "replay" or turned):
            return exact.as_step(self.config, sites), exact.after
        # Where Python would raise, the reference itself does.
        reference = Reference(self.config, self.hyper)
        reference.expose_sites = sites
        # In lists, since Python's arithmetic raises where NumPy's warns.
        reference.load(listed_state(self.config, point.state(self.config)))
        step = reference.train_step(batch)
        return step, vectors(self.config, reference.state)

    def _require_finite(self, number: int, step: Step) -> None:
        tensors = [step.loss, *step.logits, *(flat(self.config, part) for part in (step.grads, step.params, step.v))]
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise NoExpectation(f"The reference itself computes infinities or NaN at step {number}.")

    def _near(self, exact: Outcome, noisy: Outcome) -> dict[Gate, Nearness]:
        near: dict[Gate, Nearness] = {}
        for number, (one, many) in enumerate(zip(exact.documents, noisy.documents, strict=True)):
            sides = one.values, one.grads, many.values, many.grads
            for slot, distance, noise in zip(*near_kinks(one.program.relus, *sides, self.limit), strict=True):
                near[number, int(slot)] = Nearness(float(distance), float(noise))
        return near

    def _spread(self, outcome: Outcome, sites: bool) -> Step:
        """The standard deviation of every element."""
        grads, params, m, v = (TensorViews(self.config, deviation(part)) for part in (outcome.grads, *outcome.after))
        logits = [_deviations(document.values[document.program.logits]) for document in outcome.documents]
        step = Step(float(deviation(outcome.loss[None])[0]), logits, grads, params, m, v)
        if sites:
            samples = outcome.as_step(self.config, sites=True)
            step.sites, step.site_grads = _deviations(samples.sites), _deviations(samples.site_grads)
        return step

    def own_update(self, number: int, previous: Floats, grads: Floats) -> tuple[Floats, Floats]:
        """Adam alone on given gradients, (elements,), from given parameters, m and v, (3, elements).

        The new parameters, m and v, and the noise floor of this update, (3, elements) each.
        """
        exact = self._replay.adam(number, previous, grads)
        samples = self._noise.adam(number, self._noise.repeated(previous), self._noise.repeated(grads))
        after = samples[:, :, 0] if exact is None else exact
        return after, np.array([deviation(part) for part in samples])


def moved(expectation: Expectation, by: Floats) -> Expectation:
    """The expectation, leading elsewhere: parameters, m and v after it moved by so much, (3, elements)."""
    after = expectation.after
    end = replace(after, exact=after.exact + by, noisy=after.noisy + by[..., None])
    return replace(expectation, after=end)


def site_elements(config: Config, n: int) -> int:
    """How many elements the sites of a document with n positions have, gradients included."""
    slots = program(config, n).site_slots.values()
    return 2 * (sum(len(of_site) for of_site in slots) + n * config.vocab_size)


def _opened(outcome: Outcome, gates: Collection[Gate]) -> Gates:
    """All gates left to the replicas, but for some that are open."""
    decisions = [np.zeros_like(document.gates) for document in outcome.documents]
    for number, slot in gates:
        decisions[number][slot] = kernels.OPEN
    return decisions


def _turned(outcome: Outcome, gates: Collection[Gate]) -> Gates:
    """The gates of a step, some of them turned."""
    decisions = [document.decisions() for document in outcome.documents]
    for number, slot in gates:
        decisions[number][slot] = kernels.CLOSED if decisions[number][slot] == kernels.OPEN else kernels.OPEN
    return decisions


def _deviations(samples: Any) -> Any:
    """Samples, replicas last, as standard deviations."""
    return mapped(lambda array: deviation(array.reshape(-1, array.shape[-1])).reshape(array.shape[:-1]), samples)
