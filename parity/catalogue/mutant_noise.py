"""The noise floor of a mutant: the reference with a mistake, run on numbers that round at random."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from parity.catalogue.mutants import Mutant
from parity.number_formats import FORMATS, Floats, Format
from parity.trees import is_row, listed, mapped
from reference.config import Config, Hyper, State, Step


class Rounding:
    """What rounding may do to a result: every replica has it moved at random by up to u, the exact run not at all."""

    CHUNK = 4096

    def __init__(self, u: float, replicas: int, rng: np.random.Generator) -> None:
        self.u, self.replicas, self.rng = u, replicas, rng
        self.factors: list[Floats] = []

    def __call__(self, samples: Floats) -> Floats:
        """The samples, (1 + replicas,), each moved."""
        if not self.factors:
            factors = 1 + self.u * self.rng.uniform(-1, 1, (self.CHUNK, 1 + self.replicas))
            factors[:, 0] = 1.0
            self.factors = list(factors)
        return samples * self.factors.pop()


class Noisy:
    """A number of a run that is done many times at once, as data of a Value: the exact one first, then the replicas.

    Whatever is decided by a comparison is decided by the exact run: all replicas take the same gates.
    """

    __slots__ = ("rounding", "samples")

    def __init__(self, samples: Floats, rounding: Rounding) -> None:
        self.samples, self.rounding = samples, rounding

    def _with(self, function: Callable[[Any, Any], Floats], other: Any) -> "Noisy":
        if not isinstance(other, Noisy):
            return Noisy(self.rounding(function(self.samples, other)), self.rounding)
        rounding = self.rounding if self.rounding.u >= other.rounding.u else other.rounding
        return Noisy(rounding(function(self.samples, other.samples)), rounding)

    def __add__(self, other: Any) -> "Noisy":
        # Not only faster: nothing is rounded where a sum starts from 0, nor where 1 is multiplied by.
        return self if other.__class__ is not Noisy and other == 0 else self._with(np.add, other)

    def __mul__(self, other: Any) -> "Noisy":
        return self if other.__class__ is not Noisy and other == 1 else self._with(np.multiply, other)

    def __sub__(self, other: Any) -> "Noisy":
        nothing = other.__class__ is Noisy and not other.samples.any()
        return self if nothing else self._with(np.subtract, other)

    def __rsub__(self, other: Any) -> "Noisy":
        return self._with(lambda own, other: other - own, other)

    def __truediv__(self, other: Any) -> "Noisy":
        return self._with(np.divide, other)

    def __rtruediv__(self, other: Any) -> "Noisy":
        return self._with(lambda own, other: other / own, other)

    def __pow__(self, exponent: float) -> "Noisy":
        return self._with(np.float_power, exponent)

    def __neg__(self) -> "Noisy":
        return Noisy(-self.samples, self.rounding)

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> "Noisy":
        """The exponential."""
        return Noisy(self.rounding(np.exp(self.samples)), self.rounding)

    def log(self) -> "Noisy":
        """The natural logarithm."""
        return Noisy(self.rounding(np.log(self.samples)), self.rounding)

    def __gt__(self, other: Any) -> bool:
        return bool(self.samples[0] > (other.samples[0] if isinstance(other, Noisy) else other))


class NoisyMutant:
    """What a mutant gives and how far rounding alone takes it from that: the mutant's own noise floor.

    As `parity.oracle.floor.Floor` is for the reference, in all that matters here; slower, since nothing is compiled.
    """

    def __init__(
        self, mutant: Mutant, config: Config, hyper: Hyper, form: Format, replicas: int = 64, seed: int = 0
    ) -> None:
        self.model, self.config = mutant.module, config
        rng = np.random.default_rng(seed)
        # In float64 both sides round; in other formats the mutant's own rounding is nothing beside the subject's.
        u = form.u * (2 if form.name == "float64" else 1)
        self.rounding = Rounding(u, replicas, rng)
        # Scalars such as 1 - beta2 are computed in float32 at least, whatever the format of the tensors.
        shared = Rounding(min(u, FORMATS["float32"].u), replicas, rng)
        self.hyper: Any = SimpleNamespace(**vars(hyper))
        for name in ("beta1", "beta2"):
            setattr(self.hyper, name, _average(getattr(hyper, name), shared))
        if form.name != "float64":  # the hyper-parameters are no numbers of the format
            for name in ("learning_rate", "beta1", "beta2", "eps_adam"):
                number = getattr(self.hyper, name)
                samples = number.samples if isinstance(number, Noisy) else np.full(1 + replicas, number)
                setattr(self.hyper, name, Noisy(shared(samples), shared))

    def load(self, state: State) -> None:
        """Start from this state."""

        def number(x: float) -> Noisy:
            return Noisy(np.full(1 + self.rounding.replicas, x), self.rounding)

        params, m, v = (mapped(number, listed(part)) for part in (state.params, state.m, state.v))
        self.state = State(params, m, v, state.step)

    def train_step(self, batch: list[list[int]]) -> tuple[Step, Step]:
        """One step: its values, and their standard deviations, as nested lists of floats."""
        with np.errstate(all="ignore"):
            self.state, step = self.model.train_step(self.state, batch, self.config, self.hyper)
            # Differences from the exact run first: nothing cancels then, and equal samples give 0.
            values = self._of_samples(lambda samples: samples[:, 0], step)
            sigma = self._of_samples(lambda samples: np.std(samples[:, 1:] - samples[:, :1], axis=1, ddof=1), step)
        return values, sigma

    def _of_samples(self, function: Callable[[Floats], Floats], step: Step) -> Any:
        """The same step with a function of the samples, (numbers, 1 + replicas), of every row of numbers."""
        size = 1 + self.rounding.replicas

        def of_row(row: Any) -> Any:
            if not isinstance(row, list):
                return of_row([row])[0]
            samples = [x.samples if isinstance(x, Noisy) else np.full(size, x) for x in row]
            return function(np.array(samples)).tolist()

        return mapped(of_row, step, leaf=is_row)


def _average(beta: float, rounding: Rounding) -> Any:
    """beta, which has the rounding error of 1 - beta where the average is written as m + (1 - beta)·(g - m)."""
    if beta == 0:
        return beta
    samples = np.clip(1 - rounding(np.full(1 + rounding.replicas, 1 - beta)), 0, 1)
    samples[0] = beta
    return Noisy(samples, rounding)
