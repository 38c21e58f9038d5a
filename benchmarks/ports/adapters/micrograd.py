"""micrograd's Value in place of the reference's own: the reference's forward pass and Adam, its graph and backward."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ports.port import Port, module_of
from reference import microgpt
from reference.config import Config, Hyper, State, Step


def engine(checkout: Path, corrections: Mapping[str, str]) -> Any:
    """Its Value with what it lacks: exp and log, which the reference's softmax and loss need."""

    port = module_of(checkout / "micrograd" / "engine.py", corrections)

    class Value(port.Value):
        def exp(self):
            return self._of(math.exp(self.data), math.exp(self.data))

        def log(self):
            return self._of(math.log(self.data), 1 / self.data)

        def _of(self, data, slope):
            out = Value(data, (self,))

            def backward():
                self.grad += slope * out.grad

            out._backward = backward
            return out

    port.Value = Value  # the one that its operators make

    class Engine:
        def __init__(self, config: Config, hyper: Hyper) -> None:
            self.config, self.hyper = config, hyper
            sys.setrecursionlimit(1_000_000)  # its backward is recursive, as deep as the graph

        def load(self, state: State) -> None:
            self.state = state

        def train_step(self, batch: list[list[int]]) -> Step:
            self.state, step = microgpt.train_step(self.state, batch, self.config, self.hyper, scalar=Value)
            return step

    return Engine


PORT = Port(
    repository="karpathy/micrograd",
    commit="c911406e5ace8742e5841a7e0df113ecb5d54685",
    language="Python",
    file="micrograd/engine.py",
    blob="afd82cc573777421cfec2437a402539a82b70203",
    limits="model and Adam are the reference's; exp and log, which it lacks, are the adapter's",
    factory=engine,
)
