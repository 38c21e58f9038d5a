"""What is seen along directions over the steps of a check: see `parity.judging.directions`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from parity.judging.directions import FORWARD, Direction, Sums
from parity.judging.own_updates import own_updates
from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.oracle.noisy_replay import REPLICAS, NoisyStep
from parity.oracle.oracle import Oracle
from parity.oracle.spread import deviation
from parity.quantities import STATE
from parity.tensors import elements_of, flat
from reference.config import Config
from reference.microgpt import learning_rate

if TYPE_CHECKING:
    from parity.judging.exchange import Exchange


def replicas_of(config: Config, noisy: NoisyStep, pairs: Pairs) -> dict[str, Floats]:
    """What every replica gave of the elements of forward and backward that are compared, (elements, R), by quantity."""
    logits = [document.values(document.program.logits) for document in noisy.documents]
    return {
        "logits": np.concatenate([part.reshape(-1, REPLICAS) for part in logits]),
        "loss": noisy.loss[None],
        "grad": noisy.grads[elements_of(config, pairs.names("grad"))],
    }


def _homes_of_logits(pairs: Pairs) -> NDArray[np.int64]:
    """For each logit, its number in a document: by these, steps are compared that have other documents."""
    sizes = [int(np.prod(shape)) for key, shape in pairs.layout.entries if key.quantity == "logits"]
    return np.concatenate([np.arange(size) for size in sizes])


class Evidence(Sums):
    """What is seen along directions over the steps of a check, each from a state that was loaded."""

    def __init__(self, oracle: Oracle, false_alarm: float) -> None:
        super().__init__(false_alarm, oracle)
        self._oracle, self._config = oracle, oracle.config
        self._last: tuple[int, Floats] | None = None

    def add(self, exchange: "Exchange") -> None:
        """Take in a question and its answer; nothing where it was not kept what every replica gave."""
        noisy, pairs = exchange.expectation.noisy, exchange.pairs
        if noisy is None:
            return
        samples = replicas_of(self._config, noisy, pairs)
        for quantity in FORWARD:
            place = pairs.place(quantity)
            if place.start == place.stop:
                continue
            expected = pairs.expected[place]
            directions = [(Direction(quantity, "", "scale"), slice(None), expected)]
            directions += self._of_gradients(exchange, expected) if quantity == "grad" else []
            homes = _homes_of_logits(pairs) if quantity == "logits" else None
            self.take(directions, pairs.actual[place], expected, pairs.sigma[place], samples[quantity], homes)
        self._add_update(exchange)

    def _of_gradients(self, exchange: "Exchange", expected: Floats) -> Iterator[tuple[Direction, slice, Floats]]:
        """The scale of each tensor, and the last step's gradient."""
        start = 0
        names = exchange.pairs.names("grad")
        for name in names:
            end = start + len(elements_of(self._config, (name,)))
            yield Direction("grad", name, "scale"), slice(start, end), expected[start:end]
            start = end
        last, whole = self._last, flat(self._config, exchange.expectation.step.grads)
        self._last = exchange.number, whole
        if last and last[0] == exchange.number - 1:
            yield Direction("grad", "", "last gradient"), slice(None), last[1][elements_of(self._config, names)]

    def _add_update(self, exchange: "Exchange") -> None:
        pairs, before, config, hyper = exchange.pairs, exchange.before, self._config, self._oracle.hyper
        if before is None or not pairs.names("grad") or any(pairs.place(q).start == pairs.place(q).stop for q in STATE):
            return
        own, samples, known, grad = own_updates(self._oracle, exchange.expectation, pairs, before)
        rate = learning_rate(exchange.number, hyper)
        for part, quantity in enumerate(STATE):
            elements = elements_of(config, pairs.names(quantity))
            elements, actual = elements[known[elements]], pairs.actual[pairs.place(quantity)][known[elements]]
            was, of_grad = before[part][elements], grad[elements]
            if quantity == "param":
                ways = {"scale": own[part][elements] - was, "decay": -rate * was}
            else:
                ways = {"before": was, "gradient": of_grad if quantity == "m" else of_grad**2}
            directions = [(Direction(quantity, "", what), slice(None), d) for what, d in ways.items()]
            of_replicas = samples[part][elements]
            self.take(directions, actual, own[part][elements], deviation(of_replicas), of_replicas)
