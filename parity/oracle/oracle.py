"""What is expected of a step, and its noise floor: asked of a point where a run stands, which stays as it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.errors import NoExpectation, UsageError
from parity.number_formats import Floats, Format
from parity.options import ORACLES
from parity.oracle import exact_kernels as kernels
from parity.oracle.noisy_replay import DocumentSamples, Generators, Noise, NoisyStep
from parity.oracle.program import Program
from parity.oracle.python_reference import Reference
from parity.oracle.replay import Gates, Outcome, Replay, program
from parity.oracle.rounding import Rounding
from parity.oracle.spread import deviation, near_kinks
from parity.tensors import TensorViews, flat, listed_state, named_state, vectors
from reference.config import Config, Hyper, State, Step

Gate = tuple[int, int]
"""A ReLU of a step: its document and its slot."""

Decisions = Mapping[Gate, bool]
"""What some ReLUs do whatever their input is: True for those that are open."""

NATURALLY: Decisions = {}
"""Every ReLU does as its input says."""


@dataclass(frozen=True)
class Nearness:
    """How near the input of a ReLU is to zero, where rounding may give it either sign."""

    distance: float
    """Of the input from zero, in standard deviations."""
    noise: float
    """Of the gradient that the gate lets through or not, relative to it."""
    natural: bool
    """Whether the exact input opens it."""
    vanishes: bool
    """Whether the input is below what the format can hold: rounded to zero, it opens nothing."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where a run stands, exactly and with noise."""

    number: int
    """Of the next step."""
    exact: Floats
    """Parameters, m and v, (3, elements)."""
    noisy: Floats
    """The same of every replica, (3, elements, R)."""
    generators: Generators
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
    decided: Decisions
    """What was decided otherwise than the exact values would have it."""
    after: Point
    noisy: NoisyStep | None = None
    """What every replica gave; None where that would take much memory."""


_LARGEST_KEPT = 2**26
"""Bytes of the replicas' tensors up to which the first expectation is kept, and what every replica gave."""


class Oracle:
    """What is expected of one model in one number format.

    storage: the format that weights and moments lie in, if that is another one. limit: the number of standard
    deviations that rounding explains. source: "replay", or "python" for the reference itself, step by step; both give
    the same bits. rounding: other rules than the formats'. Noise begins anew at every `start`, so that what a run
    starts from decides all that follows. Raises UsageError for another source.
    """

    def __init__(
        self,
        config: Config,
        hyper: Hyper,
        form: Format,
        limit: float,
        source: str = "replay",
        storage: Format | None = None,
        rounding: Rounding | None = None,
    ) -> None:
        if source not in ORACLES:
            raise UsageError(f"There is no oracle {source!r}; there are {' and '.join(ORACLES)}.")
        self.config, self.hyper, self.form, self.limit, self.source = config, hyper, form, limit, source
        self.storage = storage
        self.smooth = config.activation == "relu2"
        self._noise = Noise(config, hyper, form, storage, rounding=rounding)
        self._replay = Replay(config, hyper)
        self._first: tuple[Any, Expectation] | None = None

    def start(self, state: State) -> Point:
        """The point at which a run starts from a state: no replica has moved yet."""
        exact = vectors(self.config, state)
        return Point(state.step, exact, self._noise.repeated(exact), self._noise.seeds)

    def expect(
        self, point: Point, batch: list[list[int]], decided: Decisions = NATURALLY, sites: bool = False
    ) -> Expectation:
        """The step from a point, with some ReLUs decided otherwise; with its sites, if they are asked for.

        Raises NoExpectation where the reference fails, or computes something other than finite numbers.
        """
        # The two modes of a check begin with the same question.
        fresh = point.generators is self._noise.seeds and not decided
        question = (point.number, batch, sites)
        if fresh and self._first and self._first[0] == question:
            first = self._first[1]
            if np.array_equal(first.before.exact, point.exact):
                return first
        expectation = self._expect(point, batch, decided, sites)
        if fresh and self._first is None and point.noisy.nbytes <= _LARGEST_KEPT:
            self._first = question, expectation
        return expectation

    def _expect(self, point: Point, batch: list[list[int]], decided: Decisions, sites: bool) -> Expectation:
        exact = self._exact(point, batch, decided, sites)
        step, after = self._expected(point, batch, exact, decided, sites)
        if not decided:
            self._require_finite(point.number, step)
        gates = None
        if exact is not None:
            # Of a squared ReLU, replicas decide for themselves: it has no jump.
            forced = [document.gates for document in exact.documents]
            gates = forced if self.smooth else [document.decisions() for document in exact.documents]
        noisy = self._noise.step(point.number, point.noisy, point.generators, batch, gates, sites)
        near = {} if exact is None else self._near(exact, noisy)
        end = Point(point.number + 1, after, noisy.after, noisy.generators)
        kept = noisy if point.noisy.nbytes + noisy.nbytes <= _LARGEST_KEPT else None
        return Expectation(point, batch, step, self._spread(noisy, sites), near, decided, end, kept)

    def exact_step(
        self, point: Point, batch: list[list[int]], decided: Decisions = NATURALLY, sites: bool = False
    ) -> Step | None:
        """The exact step from a point with some ReLUs decided otherwise; None where Python would have raised."""
        outcome = self._exact(point, batch, decided, sites)
        return None if outcome is None else outcome.as_step(self.config, sites)

    def decisions(self, point: Point, batch: list[list[int]], shown: Decisions) -> Decisions:
        """The decisions that make the gates of the exact step those that are shown, where it has others by itself.

        What is decided early changes what others are given; a few rounds settle that.
        """
        decided: Decisions = NATURALLY
        for _ in range(2 * self.config.n_layer + 2):
            outcome = self._exact(point, batch, decided, sites=False)
            if outcome is None:
                break
            natural: dict[Gate, bool] = {}
            for number, document in enumerate(outcome.documents):
                slots, sources = document.program.relus.T
                own = zip(slots.tolist(), (document.values[sources] > 0).tolist(), strict=True)
                natural |= {(number, slot): opened for slot, opened in own}
            wanted = {gate: opened for gate, opened in shown.items() if natural[gate] is not opened}
            if wanted == decided:
                break
            decided = wanted
        return decided

    def _exact(self, point: Point, batch: list[list[int]], decided: Decisions, sites: bool) -> Outcome | None:
        replay = self._replay
        replay.expose_sites, replay.tensors, replay.number = sites, point.exact, point.number
        return replay.outcome(batch, self._forced(batch, decided) if decided else None)

    def _forced(self, batch: list[list[int]], decided: Decisions) -> Gates:
        """The gates of a batch by slot, all natural but for those decided."""
        gates = [np.zeros(self.program(tokens).slots, dtype=np.int8) for tokens in batch]
        for (number, slot), opened in decided.items():
            gates[number][slot] = kernels.OPEN if opened else kernels.CLOSED
        return gates

    def program(self, tokens: Sequence[int]) -> Program:
        """The program of a document."""
        return program(self.config, min(self.config.block_size, len(tokens) - 1))

    def _expected(
        self, point: Point, batch: list[list[int]], exact: Outcome | None, decided: Decisions, sites: bool
    ) -> tuple[Step, Floats]:
        """The expected step, and parameters, m and v after it."""
        if exact is not None and (self.source == "replay" or decided):
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

    def _near(self, exact: Outcome, noisy: NoisyStep) -> dict[Gate, Nearness]:
        near: dict[Gate, Nearness] = {}
        for number, (one, many) in enumerate(zip(exact.documents, noisy.documents, strict=True)):
            slots, sources = one.program.relus.T
            sides = one.values[sources], one.grads[slots], many.values(sources), many.grads(slots)
            for relu, distance, noise in zip(*near_kinks(*sides, self.limit), strict=True):
                x = float(one.values[sources[relu]])
                found = Nearness(float(distance), float(noise), x > 0, abs(x) < self.form.tiny)
                near[number, int(slots[relu])] = found
        return near

    def _spread(self, noisy: NoisyStep, sites: bool) -> Step:
        """The standard deviation of every element."""
        grads, params, m, v = (TensorViews(self.config, deviation(part)) for part in (noisy.grads, *noisy.after))
        logits = [_deviations(document.values(document.program.logits)) for document in noisy.documents]
        step = Step(float(deviation(noisy.loss[None])[0]), logits, grads, params, m, v)
        if sites:
            step.sites, step.site_grads = self._site_spread(noisy.documents)
        return step

    def _site_spread(self, documents: Sequence[DocumentSamples]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The standard deviations of all sites, and of their gradients, the documents one after another."""
        values: dict[str, list[Floats]] = {}
        grads: dict[str, list[Floats]] = {}
        for document in documents:
            for site, entries in document.program.sites.items():
                values.setdefault(site, []).extend(_deviations(document.values(slots)) for slots in entries)
                grads.setdefault(site, []).extend(_deviations(document.grads(slots)) for slots in entries)
        of_loss = values.pop("loss"), grads.pop("loss")  # in the order of execution: probs before loss
        values["probs"] = [_deviations(rows) for document in documents for rows in self._noise.probabilities(document)]
        grads["probs"] = [sigma for document in documents for sigma in self._probability_grads(document)]
        values["loss"], grads["loss"] = of_loss
        return values, grads

    def _probability_grads(self, document: DocumentSamples) -> Iterator[Floats]:
        """The standard deviations of the gradients of each position's probabilities: all but the target's are 0."""
        for target, slot in zip(document.targets, document.program.target_muls, strict=True):
            sigma = np.zeros(self.config.vocab_size)
            sigma[target] = _deviations(document.grads(slot))
            yield sigma

    def own_updates(self, number: int, previous: Floats, grads: Floats) -> tuple[Floats, Floats]:
        """Adam alone on given gradients, (elements,), from given parameters, m and v, (3, elements).

        The new parameters, m and v, (3, elements), and what every replica gives, (3, elements, R).
        """
        noise = self._noise
        exact = self._replay.adam(number, previous, grads)
        samples = noise.adam(number, noise.repeated(previous), noise.repeated(grads), noise.seeds.copy())
        return samples[:, :, 0] if exact is None else exact, samples


def led_elsewhere(expectation: Expectation, by: Floats) -> Expectation:
    """The expectation, leading elsewhere: parameters, m and v after it moved by so much, (3, elements)."""
    after = expectation.after
    end = replace(after, exact=after.exact + by, noisy=after.noisy + by[..., None])
    return replace(expectation, after=end)


def site_elements(config: Config, n: int) -> int:
    """How many elements the sites of a document with n positions have, gradients included."""
    slots = program(config, n).site_slots.values()
    return 2 * (sum(len(of_site) for of_site in slots) + n * config.vocab_size)


def _deviations(samples: Floats) -> Floats:
    """The standard deviation over the replicas, which come last."""
    return np.asarray(deviation(samples.reshape(-1, samples.shape[-1]))).reshape(samples.shape[:-1])
