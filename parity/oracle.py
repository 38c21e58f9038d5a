"""What expected comes from, and the noise floor around it."""

from typing import Any, Protocol

import numpy as np

from parity import kernels
from parity.errors import NoExpectation, UsageError
from parity.formats import Format
from parity.options import ORACLES
from parity.replay import Gates, Noise, Replay, program
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

    def train_step(self, batch: list[list[int]], gates: Gates | None = None) -> Step:
        """One step; gates: ReLUs to decide otherwise than by their sign. NoExpectation where the reference fails."""


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

    def train_step(self, batch: list[list[int]], gates: Gates | None = None) -> Step:
        """One step, bit for bit that of the reference where no gate is forced."""
        self.replay.expose_sites = self.expose_sites
        step = self.replay.train_step(batch, gates)
        if step is not None:
            return step
        if gates:
            raise NoExpectation(f"The reference has no value for the other side of a ReLU at step {self.number}.")
        self.reference.expose_sites = self.expose_sites
        self.reference.load(_as_floats(self.state))
        step = self.reference.train_step(batch)
        self.replay.load(self.reference.state)
        return step


class PythonOracle(ReplayOracle):
    """The reference itself, step by step in pure Python; only forced gates, which it has not, are replayed."""

    def train_step(self, batch: list[list[int]], gates: Gates | None = None) -> Step:
        """One step."""
        if gates:
            return super().train_step(batch, gates)
        self.reference.expose_sites = self.expose_sites
        self.reference.load(_as_floats(self.state))
        step = self.reference.train_step(batch)
        self.replay.load(self.reference.state)
        return step


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


class Floor:
    """The noise floor of a run in a number format: the spread of noisy replays."""

    def __init__(self, config: Config, hyper: Hyper, form: Format) -> None:
        self.config, self.hyper, self.form = config, hyper, form
        self.noise = Noise(config, hyper, form)
        self.replay = Replay(config, hyper)
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start all replicas from the same state."""
        self.noise.load(state)

    def train_step(self, batch: list[list[int]], limit: float, gates: Gates | None = None) -> tuple[Step, Gates]:
        """The standard deviation of every element of one step, and the ReLUs at their kink.

        Those are the ones whose input lies within limit standard deviations of zero in the middle of the replicas;
        each comes with the decision that is not the usual one.
        """
        self.noise.expose_sites = self.expose_sites
        outcome = self.noise.train_step(batch, gates)
        kinks: Gates = {}
        for number, document in enumerate(outcome.documents):
            outputs, inputs = document.program.relus.T if len(document.program.relus) else ((), ())
            samples = document.values[list(inputs)]
            sigma = kernels.deviation(samples)
            middle = np.median(samples, axis=1) if len(samples) else sigma
            for slot, x, spread in zip(outputs, middle, sigma, strict=True):
                if abs(x) <= limit * spread and spread > 0:
                    kinks[number, int(slot)] = bool(x <= 0)
        step = outcome.as_step(self.config, self.expose_sites)
        return _deviations(step), kinks

    def site_elements(self, n: int) -> int:
        """How many elements the sites of a document with n positions have, gradients included."""
        entries = [entry for entries in program(self.config, n).sites.values() for entry in entries]
        return 2 * (sum(entry.size for entry in entries) + n * self.config.vocab_size)

    @property
    def tensors(self) -> Any:
        """The replicas' parameters, m and v."""
        return self.noise.tensors

    @tensors.setter
    def tensors(self, tensors: Any) -> None:
        self.noise.tensors = tensors

    @property
    def number(self) -> int:
        """The number of the next step."""
        return self.noise.number

    @number.setter
    def number(self, number: int) -> None:
        self.noise.number = number


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
