"""The noise floor of a mutant: the reference with a mistake, run on numbers that round at random."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from parity.catalogue.mutants import Mutant
from parity.number_formats import Floats, Format
from parity.oracle.rounding import Rounding, average_weight
from parity.trees import is_row, listed, mapped
from reference.config import Config, Hyper, State, Step


class _Moves:
    """Moves results at random, those of every replica by up to u, relative to them, and the exact run's not at all."""

    CHUNK = 4096

    def __init__(self, u: float, replicas: int, rng: np.random.Generator) -> None:
        self.u, self.replicas, self.rng = u, replicas, rng
        self.factors: list[Floats] = []

    def refill(self) -> list[Floats]:
        """Draw the next factors, of which none are left; each is a result's, and is popped."""
        factors = 1 + self.u * self.rng.uniform(-1, 1, (self.CHUNK, 1 + self.replicas))
        factors[:, 0] = 1.0
        self.factors.extend(factors)
        return self.factors

    def __call__(self, samples: Floats) -> Floats:
        """The samples, (1 + replicas,), each moved, in their place."""
        samples *= (self.factors or self.refill()).pop()  # which nobody else holds, for it was computed just now
        return samples


class _Noisy:
    """A number of a run that is done many times at once, as data of a Value: the exact one first, then the replicas.

    Whatever is decided by a comparison is decided by the exact run: all replicas take the same gates.
    """

    __slots__ = ("moves", "samples")

    def __init__(self, samples: Floats, moves: _Moves) -> None:
        self.samples, self.moves = samples, moves

    def _with(self, function: Callable[[Any, Any], Floats], other: Any) -> "_Noisy":
        if not isinstance(other, _Noisy):
            return _Noisy(self.moves(function(self.samples, other)), self.moves)
        moves = self.moves if self.moves.u >= other.moves.u else other.moves
        return _Noisy(moves(function(self.samples, other.samples)), moves)

    # Nearly all of a mutant's run is the next two, which therefore do for themselves what `_with` does for the others;
    # and of what is exact by the rules they leave out what shows without a look at all samples.

    def __add__(self, other: Any) -> "_Noisy":
        moves = self.moves
        if other.__class__ is _Noisy:
            samples = self.samples + other.samples
            moves = moves if moves is other.moves or moves.u >= other.moves.u else other.moves
        elif other == 0:
            return self
        else:
            samples = self.samples + other
        samples *= (moves.factors or moves.refill()).pop()
        return _Noisy(samples, moves)

    def __mul__(self, other: Any) -> "_Noisy":
        moves = self.moves
        if other.__class__ is _Noisy:
            samples = self.samples * other.samples
            moves = moves if moves is other.moves or moves.u >= other.moves.u else other.moves
        elif other == 1:
            return self
        else:
            samples = self.samples * other
        samples *= (moves.factors or moves.refill()).pop()
        return _Noisy(samples, moves)

    def __sub__(self, other: Any) -> "_Noisy":
        nothing = other.__class__ is _Noisy and not other.samples.any()
        return self if nothing else self._with(np.subtract, other)

    def __rsub__(self, other: Any) -> "_Noisy":
        return self._with(lambda own, other: other - own, other)

    def __truediv__(self, other: Any) -> "_Noisy":
        return self._with(np.divide, other)

    def __rtruediv__(self, other: Any) -> "_Noisy":
        return self._with(lambda own, other: other / own, other)

    def __pow__(self, exponent: float) -> "_Noisy":
        return self._with(np.float_power, exponent)

    def __neg__(self) -> "_Noisy":
        return _Noisy(-self.samples, self.moves)

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> "_Noisy":
        """The exponential."""
        return _Noisy(self.moves(np.exp(self.samples)), self.moves)

    def log(self) -> "_Noisy":
        """The natural logarithm."""
        return _Noisy(self.moves(np.log(self.samples)), self.moves)

    def __gt__(self, other: Any) -> bool:
        return bool(self.samples[0] > _exact(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.samples[0] >= _exact(other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.samples[0] < _exact(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.samples[0] <= _exact(other))

    def __bool__(self) -> bool:
        return bool(self.samples[0])


def _exact(number: Any) -> Any:
    """What the exact run has for a number."""
    return number.samples[0] if isinstance(number, _Noisy) else number


class NoisyMutant:
    """What a mutant gives and how far rounding alone takes it from that: the mutant's own noise floor.

    As `parity.oracle.oracle.Oracle` is for the reference, in all that matters here; slower, since nothing is compiled.
    """

    def __init__(
        self, mutant: Mutant, config: Config, hyper: Hyper, form: Format, replicas: int = 64, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        rounding = Rounding.of(form)
        self.moves = _Moves(rounding.u, replicas, rng)
        shared = _Moves(rounding.shared_u, replicas, rng)
        self.hyper: Any = SimpleNamespace(**vars(hyper))
        for name in ("beta1", "beta2"):
            setattr(self.hyper, name, _average(getattr(hyper, name), shared))
        if rounding.hypers_round:
            for name in ("learning_rate", "beta1", "beta2", "eps_adam"):
                number = getattr(self.hyper, name)
                samples = number.samples if isinstance(number, _Noisy) else np.full(1 + replicas, number)
                setattr(self.hyper, name, _Noisy(shared(samples), shared))
        self.subject: Any = mutant.make(config, cast("Hyper", self.hyper))

    def load(self, state: State) -> None:
        """Start from this state."""

        def number(x: float) -> _Noisy:
            return _Noisy(np.full(1 + self.moves.replicas, x), self.moves)

        params, m, v = (mapped(number, listed(part)) for part in (state.params, state.m, state.v))
        self.subject.load(State(params, m, v, state.step))

    def train_step(self, batch: list[list[int]]) -> tuple[Step, Step]:
        """One step: its values, and their standard deviations, as nested lists of floats."""
        with np.errstate(all="ignore"):
            step = self.subject.train_step(batch)
            # Differences from the exact run first: nothing cancels then, and equal samples give 0.
            values = self._of_samples(lambda samples: samples[:, 0], step)
            sigma = self._of_samples(lambda samples: np.std(samples[:, 1:] - samples[:, :1], axis=1, ddof=1), step)
        return values, sigma

    def _of_samples(self, function: Callable[[Floats], Floats], step: Step) -> Any:
        """The same step with a function of the samples, (numbers, 1 + replicas), of every row of numbers."""
        size = 1 + self.moves.replicas

        def of_row(row: Any) -> Any:
            if not isinstance(row, list):
                return of_row([row])[0]
            samples = [x.samples if isinstance(x, _Noisy) else np.full(size, x) for x in row]
            return function(np.array(samples)).tolist()

        return mapped(of_row, step, leaf=is_row)


def _average(beta: float, moves: _Moves) -> Any:
    """The weight of a moving average; a plain number where it is exact."""
    samples = average_weight(beta, 1 + moves.replicas, moves)
    samples[0] = beta
    return _Noisy(samples, moves) if beta else beta
