"""A training as it is, on shadows, and on replicas: what each step gives, what is expected, and the noise floor."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from parity.errors import SubjectError, UsageError
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Noise
from parity.subjects.calls import guarded
from parity.training.comparison import order
from parity.training.gates import Gates
from parity.training.observation import Observed, Replacement, observed_step, same_bits
from parity.training.spread import Again, Floor, Nothing, Spread
from parity.training.state import State, load_state, named_parameters, shadow, state_of
from parity.training.training import Training

_LARGE = 30_000_000
"""Parameters of a model whose operations are worth several threads."""


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
        for name, usual in (("dtype", "float32"), ("device", "cpu")):
            parameter = inspect.signature(make).parameters.get(name)
            if parameter is not None and parameter.default is parameter.empty:
                self.options.setdefault(name, usual)
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
    elementwise, decomposed: operations without a model of their own, by how they were treated; random: those that draw
    numbers.
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
        self.observable = True
        """Whether the training's run is the same with hooks and a mode of dispatch as without."""
        self.elementwise: set[str] = set()
        self.decomposed: set[str] = set()
        self.random: set[str] = set()
        try:
            shadow(self.on_shadows)
        except RuntimeError as error:
            raise UsageError(f"The training's tensors cannot be replaced by shadows: {_line(error)}.") from None

    def natively(self, number: int, start: State) -> Observed:
        """The step as it is, from a state: with what its modules give and how its ReLUs decided, if that may be seen.

        Whoever looks on may change what runs: hooks cut compiled code in two, a mode of dispatch has it run eagerly.
        So the step is taken once without, and what is seen of it counts only where every bit is the same.
        """
        load_state(self.native, start)
        unseen = self._natively(number, seen=Observed(modules_are_seen=False))
        if self.observable:
            load_state(self.native, start)
            with self.gates.recorded():
                seen = self._natively(number, seen=Observed())
            self.observable = same_bits(unseen, seen)
        if self.observable:
            return seen
        self.gates.begin_anew(1)
        return unseen

    def _natively(self, number: int, seen: Observed) -> Observed:
        with step_seed(number):
            guarded(f"step {number}", observed_step, self.native, number, sites=self.sites, seen=seen)
        if not seen.updates:
            raise UsageError(f"Step {number} never calls the optimizer's step().")
        return seen

    def on(
        self,
        noise: Noise | None,
        number: int,
        gradients: Replacement | None,
        *,
        forced: bool = True,
        seen: Observed | None = None,
    ) -> Observed:
        """The step on shadows, from where these stand. forced: with the ReLUs that the step itself let pass.

        seen: what takes its tensors in, as they come.
        """
        execution = Execution(noise)
        if forced:
            execution.gates = self.gates.replayed(noise)
        try:
            with step_seed(number), _as_eager_code(self._threads), execution:
                seen = observed_step(self.on_shadows, number, sites=self.sites, gradients=gradients, seen=seen)
        except (UsageError, SubjectError, KeyboardInterrupt):
            raise
        except Exception as error:
            hint = (
                " Exact arithmetic cannot follow where numbers leave torch; of a single one, .item() is known."
                if "not supported for tensor subclasses" in str(error)
                else ""
            )
            raise UsageError(
                f"Step {number} cannot be run in exact arithmetic: {type(error).__name__}: {_line(error)}.{hint}"
            ) from error
        if noise is None:
            _require_numbers(seen, number)
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
        if mode == "free-running":
            yield from self._running_freely(number, start, progress)
            return
        for k in range(number):
            step = self._step(k, start, wide=wide, progress=progress)
            yield step
            if k < number - 1:
                load_state(self.on_shadows, start)
                self.on(None, k, Replacement(step.actual.gradients(), everywhere=True), seen=Nothing())
                start = state_of(self.on_shadows).rounded()

    def _step(self, number: int, start: State, *, wide: bool, progress: Callable[[], None]) -> Step:
        actual = self.natively(number, start)
        gradients = Replacement(actual.gradients(), everywhere=True)

        def on_shadows(noise: Noise | None, *, forced: bool = True, seen: Observed | None = None) -> Observed:
            load_state(self.on_shadows, start)
            return self.on(noise, number, gradients, forced=forced, seen=seen)

        expected = on_shadows(None)
        on_shadows(None, seen=Again(expected, number))
        step = Step(number, start, actual, expected, {})
        step.floor = self._floor(expected, number, on_shadows, progress)
        if wide:
            unforced = partial(on_shadows, forced=False)
            step.plain = unforced(None) if self.gates.turned_now else expected
            step.wide_floor = self._floor(step.plain, number, unforced, progress, wide=True)
        return step

    def _floor(
        self,
        expected: Observed,
        number: int,
        run: Callable[..., Observed],
        progress: Callable[[], None],
        *,
        wide: bool = False,
    ) -> Floor:
        spread = Spread(expected, wide=wide)
        for replica in range(self.replicas):
            with spread.replica() as seen:
                run(Noise(seed_of(replica, number), wide=wide), seen=seen)
            progress()
        return spread.floor

    def _running_freely(self, number: int, start: State, progress: Callable[[], None]) -> Iterator[Step]:
        self.natively(0, start)  # to know whether it can be looked on
        load_state(self.native, start)
        self.gates.begin_anew(number)
        actual = [self._free(k, self._freely, number) for k in range(number)]
        gradients = [Replacement(seen.gradients(), everywhere=False) for seen in actual]

        def on_shadows(noise: Noise | None, k: int, seen: Observed | None = None) -> Observed:
            if k == 0:
                load_state(self.on_shadows, start)
            self.gates.at(k)
            return self.on(noise, k, gradients[k], seen=seen)

        expected = [self._free(k, partial(on_shadows, None), number) for k in range(number)]
        spreads = [Spread(seen) for seen in expected]
        for replica in range(self.replicas):
            noise = Noise(seed_of(replica, -1))
            for k, spread in enumerate(spreads):
                with spread.replica() as seen:
                    on_shadows(noise, k, seen)
            progress()
        for k in range(number):
            yield Step(k, start, actual[k], expected[k], spreads[k].floor)

    def _freely(self, number: int) -> Observed:
        """The step as it is, from where the training stands."""
        if not self.observable:
            return self._natively(number, seen=Observed(modules_are_seen=False))
        with self.gates.recorded():
            return self._natively(number, seen=Observed())

    @staticmethod
    def _free(k: int, run: Callable[[int], Observed], number: int) -> Observed:
        """A step, of whose tensors the large ones are kept in the last step alone."""
        seen = run(k)
        if k < number - 1:
            kept = {key: x for key, x in seen.tensors.items() if key.quantity in ("loss", "output", "grad")}
            seen.tensors = kept
            seen.dtypes = {key: seen.dtypes[key] for key in kept}
        return seen


@contextmanager
def step_seed(number: int) -> Iterator[None]:
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


def _require_numbers(seen: Observed, number: int) -> None:
    """SubjectError where exact arithmetic itself comes to NaN in a loss or a parameter.

    Gradients may be NaN where a scaler leaves their step out, and a site where nothing reads it.
    """
    nan = [key for key, tensor in seen.tensors.items() if bool(tensor.isnan().any())]
    if any(key.quantity in ("loss", "param") for key in nan):
        first = min(nan, key=order)
        raise SubjectError(f"Step {number} comes to NaN even in exact arithmetic, first in {first.described()}.")


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
