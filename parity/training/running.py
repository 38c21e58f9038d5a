"""A training as it is, on shadows, and on replicas: what each step gives, what is expected, and the noise floor."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parity.errors import SubjectError, UsageError
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.quantities import TensorKey
from parity.subjects.calls import guarded
from parity.training.gates import Gates
from parity.training.observation import Observed, Replacement, observed_step
from parity.training.state import State, load_state, named_parameters, shadow, state_of
from parity.training.training import Training

_LARGE = 1_000_000
"""Parameters of a model whose operations are worth several threads."""

Floor = dict[TensorKey, Tensor]
"""The noise floor of each element, in float64: how far replicas lie from exact arithmetic, in the root mean square."""


@dataclass
class Step:
    """A step of a training: what it gave, what exact arithmetic gives, and the noise floor between the two."""

    number: int
    start: State
    actual: Observed
    expected: Observed
    floor: Floor
    plain: Observed = field(default_factory=Observed)
    """What exact arithmetic gives where it decides its ReLUs by itself; where it was asked for, as is what follows."""
    wide_floor: Floor = field(default_factory=dict)
    """The floor of exact arithmetic itself, which rounds as float64 does."""


class Factory:
    """Makes a training, always the same one: `make(dtype=…, device=…)`, given what it takes of these.

    make: called with torch's generator seeded. SubjectError for what it raises, UsageError where it makes no Training.
    """

    def __init__(self, make: Callable[..., Any], dtype: str | None = None, device: str | None = None) -> None:
        self.make = make
        self.options = {k: x for k, x in (("dtype", dtype), ("device", device)) if x is not None}
        taken = parameters_of(make)
        for name in self.options:
            if name not in taken:
                raise UsageError(f"The factory takes no {name}, so --{name} cannot choose it.")

    def __call__(self, **instead: str) -> Training:
        """A training made anew; instead: options other than those given."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = guarded("making the training", self.make, **{**self.options, **instead})
        if not isinstance(made, Training):
            raise UsageError(f"The factory makes a {type(made).__name__}, not a parity.training.Training.")
        return made


def parameters_of(make: Callable[..., Any]) -> set[str]:
    """The names of a factory's parameters; those of dtype and device where it takes any."""
    found = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found.values()):
        return {*found, "dtype", "device"}
    return set(found)


class Runs:
    """A training, and the same one made anew and turned to shadows; both start from the same state.

    replicas: runs with every operation's rounding, over which the noise floor is taken. sites: note what modules give.
    unmodelled: operations without a model of their own, and how they were treated; random: those that draw numbers.
    """

    def __init__(self, factory: Factory, replicas: int, *, sites: bool) -> None:
        self.factory, self.replicas, self.sites = factory, replicas, sites
        self.native = factory()
        self.on_shadows = factory()
        if named_parameters(self.native).keys() != named_parameters(self.on_shadows).keys():
            raise UsageError("The factory makes other parameters when it is called again.")
        self.start = state_of(self.native)
        # Threads that wait for each other take longer than a small operation does, where something else is running.
        small = sum(numbers.held.numel() for numbers in self.start.params.values()) < _LARGE
        self._threads = 1 if small else torch.get_num_threads()
        self.gates = Gates()
        self.elementwise: set[str] = set()
        self.decomposed: set[str] = set()
        self.random: set[str] = set()
        try:
            shadow(self.on_shadows)
        except RuntimeError as error:
            raise UsageError(f"The training's tensors cannot be replaced by shadows: {_line(error)}.") from None

    def natively(self, number: int) -> Observed:
        """The step as it is, from where the training stands."""
        with _step_seed(number), self.gates.recorded():
            seen: Observed = guarded(f"step {number}", observed_step, self.native, number, sites=self.sites)
        if not seen.updates:
            raise UsageError(f"Step {number} never calls the optimizer's step().")
        return seen

    def on(self, noise: Noise | None, number: int, gradients: Replacement | None, *, forced: bool = True) -> Observed:
        """The step on shadows, from where these stand. forced: with the ReLUs that the step itself let pass."""
        execution = Execution(noise)
        if forced:
            execution.gates = self.gates.replayed(noise)
        try:
            with _step_seed(number), _as_eager_code(self._threads), execution:
                seen = observed_step(self.on_shadows, number, sites=self.sites, gradients=gradients)
        except (UsageError, SubjectError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise UsageError(
                f"Step {number} cannot be run in exact arithmetic: {type(error).__name__}: {_line(error)}."
            ) from error
        self.elementwise |= execution.elementwise
        self.decomposed |= execution.decomposed
        self.random |= execution.random
        return seen

    def steps(
        self, number: int, mode: str, *, start: State, wide: bool, progress: Callable[[], None]
    ) -> Iterator[Step]:
        """So many steps in a mode, from a state. Free-running, all but the last show only what they compute forward.

        wide: also the floor of exact arithmetic.
        """
        if mode == "lock-step":
            for k in range(number):
                step, after = self._step(k, start, wide=wide, progress=progress)
                yield step
                start = after.rounded()
            return
        yield from self._running_freely(number, start, progress)

    def _step(self, number: int, start: State, *, wide: bool, progress: Callable[[], None]) -> tuple[Step, State]:
        """A step from a state, and where exact arithmetic stands after it."""
        load_state(self.native, start)
        actual = self.natively(number)
        gradients = Replacement(actual.gradients(), everywhere=True)

        def on_shadows(noise: Noise | None, *, forced: bool = True) -> Observed:
            load_state(self.on_shadows, start)
            return self.on(noise, number, gradients, forced=forced)

        expected = on_shadows(None)
        after = state_of(self.on_shadows)
        self._require_same(expected, on_shadows(None), number)
        step = Step(number, start, actual, expected, {})
        step.floor = self._floor(expected, number, on_shadows, progress)
        if wide:
            step.plain = on_shadows(None, forced=False)
            step.plain.dtypes, step.plain.modules = actual.dtypes, actual.modules
            step.wide_floor = self._floor(
                step.plain, number, lambda noise: on_shadows(noise, forced=False), progress, wide=True
            )
        return step, after

    def _floor(
        self,
        expected: Observed,
        number: int,
        run: Callable[[Noise], Observed],
        progress: Callable[[], None],
        *,
        wide: bool = False,
    ) -> Floor:
        spread = Spread(expected)
        for replica in range(self.replicas):
            spread.add(run(Noise(seed_of(replica, number), wide=wide)))
            progress()
        return spread.floor()

    def _running_freely(self, number: int, start: State, progress: Callable[[], None]) -> Iterator[Step]:
        load_state(self.native, start)
        self.gates.begin_anew(number)
        actual = [self._free(k, lambda k: self.natively(k), number) for k in range(number)]
        gradients = [Replacement(seen.gradients(), everywhere=False) for seen in actual]

        def on_shadows(noise: Noise | None) -> Iterator[Observed]:
            load_state(self.on_shadows, start)
            for k in range(number):
                self.gates.at(k)
                yield self._free(k, lambda k: self.on(noise, k, gradients[k]), number)

        expected = list(on_shadows(None))
        spreads = [Spread(seen) for seen in expected]
        for replica in range(self.replicas):
            for spread, seen in zip(spreads, on_shadows(Noise(seed_of(replica, -1)))):
                spread.add(seen)
            progress()
        for k in range(number):
            yield Step(k, start, actual[k], expected[k], spreads[k].floor())

    @staticmethod
    def _free(k: int, run: Callable[[int], Observed], number: int) -> Observed:
        """A step, of whose tensors the large ones are kept in the last step alone."""
        seen = run(k)
        if k < number - 1:
            kept = {key: x for key, x in seen.tensors.items() if key.quantity in ("loss", "output", "grad")}
            seen.tensors = kept
        return seen

    def _require_same(self, once: Observed, again: Observed, number: int) -> None:
        for key, tensor in once.tensors.items():
            if key not in again.tensors or not torch.equal(tensor.nan_to_num(), again.tensors[key].nan_to_num()):
                raise SubjectError(
                    f"Asked again from the same state, step {number} gives another {key.described()}: it depends on "
                    "something that is no parameter, no buffer and no state of the optimizer."
                )


class Spread:
    """How far replicas lie from exact arithmetic, summed up, so that no replica is kept."""

    def __init__(self, expected: Observed) -> None:
        self.expected = expected
        self.squares = {key: torch.zeros_like(tensor) for key, tensor in expected.tensors.items()}
        self.number = 0

    def add(self, seen: Observed) -> None:
        """Take in a replica."""
        self.number += 1
        for key, squares in self.squares.items():
            if key not in seen.tensors or seen.tensors[key].shape != squares.shape:
                squares.fill_(torch.inf)  # it exists or not as rounding will have it
                continue
            away = (seen.tensors[key] - self.expected.tensors[key]).nan_to_num_(nan=torch.inf)
            same = seen.tensors[key] == self.expected.tensors[key]  # infinities as well
            squares.addcmul_(*(2 * (away.masked_fill_(same, 0.0),)))

    def floor(self) -> Floor:
        """The root mean square of their distances; what was summed up is used for it."""
        return {key: squares.div_(max(1, self.number)).sqrt_() for key, squares in self.squares.items()}


@contextmanager
def _step_seed(number: int) -> Iterator[None]:
    """What a step draws depends on its number alone, so that shadows draw the same."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        yield


@contextmanager
def _as_eager_code(threads: int) -> Iterator[None]:
    """Compiled code runs as it was written, and recurrent layers as operations that shadows know."""
    own_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    before = torch.compiler.get_stance() if hasattr(torch.compiler, "get_stance") else "default"
    torch.compiler.set_stance("force_eager")
    try:
        with torch.backends.cudnn.flags(enabled=False), _without_mkldnn():
            yield
    finally:
        torch.compiler.set_stance(before if isinstance(before, str) else "default")
        torch.set_num_threads(own_threads)


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    # torch.backends.mkldnn.flags sets more than this, and warns of it where there is no such device.
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def seed_of(replica: int, number: int) -> int:
    """Of a replica's noise in a step."""
    return 1_000_003 * (replica + 1) + number


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
