"""The scalar graph compiled: the reference's own operations in its order, replayed by machine code; no tensors."""

from collections.abc import Sequence

from parity.errors import NoExpectation
from parity.oracle.replay import Replay
from reference.config import Config, Hyper, State, Step


class Scalar:
    """The exact replay as a subject."""

    dtype = "float64"

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.replay = Replay(config, hyper)

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        self.replay.load(state)

    def prepare(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        """The documents as they are."""
        return [list(tokens) for tokens in batch]

    def update(self, inputs: list[list[int]]) -> Step:
        """Forward, backward and Adam; NoExpectation where the reference would raise."""
        step = self.replay.train_step(inputs)
        if step is None:
            raise NoExpectation("The reference itself raises here.")
        return step

    train_step = update


def make(config: Config, hyper: Hyper) -> Scalar:
    """The subject `parity.scalar:make`."""
    return Scalar(config, hyper)
