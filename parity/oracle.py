"""What expected comes from, and the noise floor around it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from parity import kernels
from parity.errors import UsageError
from parity.formats import Floats, Format
from parity.options import ORACLES
from parity.replay import Gates, Noise, Outcome, Replay, named, program
from parity.subjects import Reference
from reference.config import Config, Hyper, State, Step


class Oracle(Protocol):
    """A source of expected steps."""

    expose_sites: bool

    def load(self, state: State) -> None:
        """Start from this state."""

    @property
    def state(self) -> State:
        """Where the run stands."""

    @property
    def number(self) -> int:
        """The number of the next step."""

    def train_step(self, batch: list[list[int]]) -> Step:
        """One step; NoExpectation where the reference fails."""


class ReplayOracle:
    """The replay; where Python would raise, the reference itself, so that it does."""

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.replay = Replay(config, hyper)
        self.reference = Reference(config, hyper)
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start from this state."""
        self.replay.load(state)

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self.replay.state

    @property
    def number(self) -> int:
        """The number of the next step."""
        return self.replay.number

    def train_step(self, batch: list[list[int]]) -> Step:
        """One step, bit for bit that of the reference."""
        self.replay.expose_sites = self.expose_sites
        return self.replay.train_step(batch) or self.in_python(batch)

    def in_python(self, batch: list[list[int]]) -> Step:
        """One step of the reference itself."""
        self.reference.expose_sites = self.expose_sites
        self.reference.load(_as_floats(self.state))
        step = self.reference.train_step(batch)
        self.replay.load(self.reference.state)
        return step


class PythonOracle(ReplayOracle):
    """The reference itself, step by step in pure Python."""

    def train_step(self, batch: list[list[int]]) -> Step:
        """One step."""
        return self.in_python(batch)


def _as_floats(state: State) -> State:
    """The state in Python's floats: its arithmetic raises where NumPy's warns."""
    params, m, v = (
        {name: np.asarray(matrix).tolist() for name, matrix in tensors.items()}
        for tensors in (state.params, state.m, state.v)
    )
    return State(params, m, v, state.step)


def make_oracle(name: str, config: Config, hyper: Hyper) -> Oracle:
    """The oracle of this name; UsageError where there is none."""
    if name not in ORACLES:
        raise UsageError(f"There is no oracle {name!r}; there are {' and '.join(ORACLES)}.")
    return (ReplayOracle if name == "replay" else PythonOracle)(config, hyper)


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


class Floor:
    """The noise floor of a run in a number format: the spread of noisy replays around the exact one."""

    def __init__(self, config: Config, hyper: Hyper, form: Format) -> None:
        self.config, self.hyper, self.form = config, hyper, form
        self.noise = Noise(config, hyper, form)
        self.replay = Replay(config, hyper)
        self.smooth = config.activation == "relu2"
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start the exact replay and all replicas from the same state."""
        self.noise.load(state)
        self.replay.load(state)

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
        self, batch: list[list[int]], limit: float, turned: Iterable[Kink] = ()
    ) -> tuple[Step, dict[Kink, Nearness]]:
        """The standard deviation of every element of one step, and the ReLUs at their kink.

        Those are the ones whose input lies within limit standard deviations of zero. All replicas take the exact
        replay's decisions, but for those turned.
        """
        self.noise.expose_sites = self.replay.expose_sites = self.expose_sites
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
                slots, inputs = one.program.relus.T
                x, sigma = np.abs(one.values[inputs]), kernels.deviation(many.values[inputs])
                gradient, noise = np.abs(one.grads[slots]), kernels.deviation(many.grads[slots])
                noise = np.divide(noise, gradient, out=np.full(len(slots), np.inf), where=gradient > 0)
                for i in np.flatnonzero((x <= limit * sigma) & (sigma > 0)):
                    kinks[number, int(slots[i])] = Nearness(float(x[i] / sigma[i]), float(noise[i]))
        step = outcome.as_step(self.config, self.expose_sites)
        return _deviations(step), kinks

    def own_update(
        self, number: int, previous: Floats, grads: Floats
    ) -> tuple[list[dict[str, Floats]], list[dict[str, Floats]]]:
        """Adam alone on given gradients, (elements,), from given parameters, m and v, (3, elements).

        The new parameters, m and v by name, and the noise floor of this update.
        """
        before = np.array([previous[0], grads, *previous[1:]])
        exact, samples = self.replay.adam(number, before), self.noise.adam(number, before)
        after = samples[:, :, 0] if exact is None else exact
        spread = [kernels.deviation(part) for part in samples]
        return [named(self.config, part) for part in after], [named(self.config, part) for part in spread]

    def adopt(self, part: int, tensor: str, delta: Floats) -> None:
        """Move a tensor of the run: part 0 for the parameters, 1 and 2 for m and v."""
        self.replay.tensors, self.noise.tensors = self.replay.tensors.copy(), self.noise.tensors.copy()
        named(self.config, self.replay.tensors[part])[tensor] += delta
        named(self.config, self.noise.tensors[part])[tensor] += delta[..., None]

    def site_elements(self, n: int) -> int:
        """How many elements the sites of a document with n positions have, gradients included."""
        entries = [entry for entries in program(self.config, n).sites.values() for entry in entries]
        return 2 * (sum(entry.size for entry in entries) + n * self.config.vocab_size)


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
    """A step of samples, replicas last, as a step of standard deviations."""
    if isinstance(value, Step):
        return Step(**{name: _deviations(entry) for name, entry in vars(value).items()})
    if isinstance(value, dict):
        return {name: _deviations(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_deviations(entry) for entry in value]
    if value is None:
        return None
    samples = np.asarray(value)
    return kernels.deviation(samples.reshape(-1, samples.shape[-1])).reshape(samples.shape[:-1])
