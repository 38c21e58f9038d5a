"""The reference's own Adam at any size: it is elementwise, so that the scalar graph of one element does for all."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from parity.errors import NoExpectation
from parity.number_formats import Floats, Format
from parity.oracle.noisy_replay import Noise
from parity.oracle.replay import Replay
from parity.oracle.spread import deviation
from reference.config import Config, Hyper

_AT_A_TIME = 1 << 15
"""Elements of which all replicas are held."""


class Updates:
    """What Adam makes of given gradients, exactly and over so many replicas with the rounding of a format."""

    def __init__(self, config: Config, hyper: Hyper, form: Format, storage: Format | None, replicas: int) -> None:
        self._exact = Replay(config, hyper)
        # Deviations from a mean are known with one degree of freedom less.
        self._noise = Noise(config, hyper, form, storage, replicas=replicas + 1)

    def after(self, number: int, before: Floats, grad: Floats) -> Floats:
        """Parameters, m and v after an update, (3, elements), from before, (3, elements), and gradients, (elements,).

        NoExpectation where the reference would raise.
        """
        after = self._exact.adam(number, before, grad)
        if after is None:
            raise NoExpectation(f"The reference itself raises in the update of step {number}.")
        return after

    def floor(self, number: int, before: Floats, grad: Floats) -> Floats:
        """The noise floor of that update alone, (3, elements)."""
        floor = np.empty_like(before)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(self._part, number, before, grad, floor), _parts(len(grad))))
        return floor

    def _part(self, number: int, before: Floats, grad: Floats, floor: Floats, part: slice) -> None:
        noise = self._noise
        given = noise.repeated(before[:, part]), noise.repeated(grad[part])
        for row, samples in zip(floor, noise.adam(number, *given, noise.seeds.copy()), strict=True):
            row[part] = deviation(samples)


def _parts(elements: int) -> Iterator[slice]:
    for start in range(0, elements, _AT_A_TIME):
        yield slice(start, min(start + _AT_A_TIME, elements))
