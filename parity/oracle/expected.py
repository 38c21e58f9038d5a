"""Where *expected* comes from: the exact replay, or the reference in Python."""

from typing import Protocol

from parity.errors import UsageError
from parity.options import ORACLES
from parity.oracle.python_reference import Reference
from parity.oracle.replay import Outcome, Replay
from parity.tensors import listed_state
from reference.config import Config, Hyper, State, Step


class Oracle(Protocol):
    """A source of expected steps."""

    expose_sites: bool
    latest: Outcome | None

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
        self.latest: Outcome | None = None
        """What the latest step was replayed to; None where it was not replayed."""

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
        self.latest = self.replay.outcome(batch)
        if self.latest is None:
            return self.in_python(batch)
        self.replay.move_on(self.latest)
        return self.latest.as_step(self.replay.config, self.expose_sites)

    def in_python(self, batch: list[list[int]]) -> Step:
        """One step of the reference itself."""
        self.reference.expose_sites = self.expose_sites
        # In lists, since Python's arithmetic raises where NumPy's warns.
        self.reference.load(listed_state(self.replay.config, self.replay.tensors, self.number))
        step = self.reference.train_step(batch)
        self.replay.load(self.reference.state)
        return step


class PythonOracle(ReplayOracle):
    """The reference itself, step by step in pure Python."""

    def train_step(self, batch: list[list[int]]) -> Step:
        """One step."""
        return self.in_python(batch)


def make_oracle(name: str, config: Config, hyper: Hyper) -> Oracle:
    """The oracle of this name; UsageError where there is none."""
    if name not in ORACLES:
        raise UsageError(f"There is no oracle {name!r}; there are {' and '.join(ORACLES)}.")
    return (ReplayOracle if name == "replay" else PythonOracle)(config, hyper)
