"""Every operation of a program, run on what its tensors hold inside: exactly, or moved by its format's rounding."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from typing_extensions import override

from parity.oracle.shadows.gated import Decided
from parity.oracle.shadows.models import MODELS, SPECIAL, Model
from parity.oracle.shadows.noise import LARGEST, SINGLE, UNIT, Arithmetic, Noise
from parity.oracle.shadows.operations import EXACT, KNOWN, POWERS, SCALES, TRANSCENDENTAL
from parity.oracle.shadows.shadow import WIDE, Shadow
from parity.oracle.shadows.signatures import functional, is_given, opened, output_dtypes, tensors, written


class Execution(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which tensors of floats are shadows; within it, a program runs in exact arithmetic or on noise.

    noise: a replica's; None for exact arithmetic. unrounded: numbers of Python's that become constants of a format are
    not rounded to it, and nothing is too large for one. Afterwards, `elementwise` and `decomposed` are the operations
    without a model of their own, by name, and how they were treated instead; `random` those that draw numbers;
    `formats` are those of the results of arithmetic; `wrote_before` says whether the program wrote to a tensor that was
    there before it ran, in its format, where numbers are rounded all the same. `gates` may be set to what the program
    itself decided.
    """

    def __init__(self, noise: Noise | None = None, *, unrounded: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noise, self.unrounded = noise, unrounded
        self._constant: Callable[[Any, torch.dtype], Any] = (lambda x, dtype: x) if unrounded else _constant
        self.gates: Decided | None = None
        self.elementwise: set[str] = set()
        self.decomposed: set[str] = set()
        self.random: set[str] = set()
        self.formats: set[torch.dtype] = set()
        self.wrote_before = False
        self._arithmetics: dict[torch.dtype, Arithmetic] = {}
        self._within: dict[tuple[torch.dtype, ...], Arithmetic] = {}
        self._before: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def rounding(self, dtype: torch.dtype) -> Arithmetic:
        """Arithmetic with a format's results."""
        if dtype not in self._arithmetics:
            self._arithmetics[dtype] = self._rounding(dtype)
        return self._arithmetics[dtype]

    def _rounding(self, dtype: torch.dtype) -> Arithmetic:
        largest = math.inf if self.unrounded else LARGEST.get(dtype, math.inf)
        if self.noise is None:
            return Arithmetic(None, 0.0, largest=largest)
        tiny = _TINY_HALF if dtype == torch.float16 and not self.noise.wide else 0.0
        return Arithmetic(self.noise, self.noise.unit(dtype), tiny, largest)

    def accumulating(self, *dtypes: torch.dtype) -> Arithmetic:
        """Arithmetic within an operation whose results have these formats: in float32 at least."""
        if dtypes not in self._within:
            results = tuple(self.rounding(dtype) for dtype in dtypes)
            self._within[dtypes] = Arithmetic(self.noise, min(results[0].u, SINGLE), results=results)
        return self._within[dtypes]

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation gives for shadows, and for tensors that are none."""
        name = func.overloadpacket.__name__
        if name in SPECIAL:
            return SPECIAL[name](self, func, args, kwargs)
        key = [func]
        inner_args, inner_kwargs = [opened(x, key) for x in args], {k: opened(x, key) for k, x in kwargs.items()}
        if not any(type(entry) is tuple for entry in key):  # of no floats: a constant, or of integers
            return self._wrapped_natively(func(*args, **kwargs))
        places = written(func)
        if places:
            return self._run_in_place(name, func, places, (args, kwargs), (inner_args, inner_kwargs))
        if self.noise is not None and self.noise.given:
            inner_args = [self._with_given(x, inner) for x, inner in zip(args, inner_args)]
        model = MODELS.get(name)
        if model is None and name not in KNOWN:
            if func in decomposition_table and not func.is_view:
                self.decomposed.add(name)
                with self:
                    return decomposition_table[func](*args, **kwargs)
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                self.decomposed.add(name)
                return found
            self.elementwise.add(name)
        dtypes = output_dtypes(tuple(key), func, args, kwargs) or [torch.float32]
        if name not in EXACT:
            self.formats.update(dtypes)
        out = self._computed(name, model, func, inner_args, inner_kwargs, dtypes)
        left = iter(dtypes)

        def wrapped(x: Any) -> Any:
            if not isinstance(x, Tensor) or x.dtype not in _INSIDE:
                return x
            dtype = next(left, dtypes[-1])  # where there are more than there were once: parts of a tensor
            return Shadow(x if name in EXACT else self._rounded(name, x, dtype, args), dtype)

        return _mapped(wrapped, out)

    def _computed(
        self, name: str, model: Model | None, func: Any, args: list[Any], kwargs: Any, dtypes: list[torch.dtype]
    ) -> Any:
        """What an operation gives on float64, the rounding of its results left out."""
        if model is not None:
            return model(self.accumulating(*dtypes), func, args, kwargs)
        factor = kwargs.get("alpha")
        scalar = self._constant if name in EXACT else self._scalar if self.noise is not None else None
        if name in EXACT and self.noise is not None and self.noise.given:
            scalar = self._given_scalar
        if scalar is not None:
            args = [scalar(x, dtypes[0]) for x in args]
            kwargs = {k: scalar(x, dtypes[0]) for k, x in kwargs.items()}
            if factor is not None and name not in EXACT:
                kwargs["alpha"] = self._scalar(factor, dtypes[0], in_format=True)
        return func(*args, **kwargs)

    def _rounded(self, name: str, x: Tensor, dtype: torch.dtype, args: Any) -> Tensor:
        """A result moved by the rounding to its format."""
        arithmetic = self.rounding(dtype)
        if name in SCALES and _power_of_two(args[-1]):
            return arithmetic.scaled(x)
        if self.noise is None or name not in TRANSCENDENTAL:
            return arithmetic.rounded(x)
        return arithmetic.rounded(x, 2 if name in POWERS else 1 + min(arithmetic.u, SINGLE) / arithmetic.u)

    def _scalar(self, x: Any, dtype: torch.dtype, *, in_format: bool = False) -> Any:
        """A factor of Python's, rounded where it meets tensors: the same for all elements.

        in_format: to the tensor's own, as sums with a factor do; else to float32 at least.
        """
        if type(x) is list:
            return [self._scalar(y, dtype) for y in x]
        rounds = self.noise is not None and (self.noise.given or not self.noise.wide)
        if type(x) is not float or self.noise is None or not rounds or dtype in _DOUBLE:
            return x
        unit = UNIT[dtype] if in_format else SINGLE
        exact = unit if not self.noise.given else unit**0.5  # what has come through float32 has all of its digits
        if not math.isfinite(x) or math.frexp(x)[0] / exact % 1 == 0:
            return x
        return x * (1 + unit * self.noise.number())

    def _given_scalar(self, x: Any, dtype: torch.dtype) -> Any:
        """A number of Python's that becomes one of a format, by which it is moved."""
        if type(x) is not float or dtype in _DOUBLE:
            return x
        return float(self.given(torch.tensor(x, dtype=torch.float64), dtype))

    def given(self, numbers: Tensor, dtype: torch.dtype) -> Tensor:
        """Constants in a format: moved by its rounding, where that is asked for, if they are not short numbers."""
        if self.noise is None or not self.noise.given or dtype in _DOUBLE or dtype not in UNIT:
            return numbers
        short = (torch.frexp(numbers.nan_to_num()).mantissa / UNIT[dtype] ** 0.5).frac() == 0
        return torch.where(short, numbers, numbers * self.noise.factors(numbers, UNIT[dtype]))

    def given_before(self, x: Tensor, numbers: Tensor) -> Tensor:
        """What a tensor holds: of one that was there before the program ran, in its format, as `given` moves constants.

        It is moved the same wherever it is used.
        """
        if self.noise is None or not self.noise.given or isinstance(x, Shadow) or x.dtype not in UNIT:
            return numbers
        key = (x.data_ptr(), x.shape, x.stride(), x.dtype, x._version)
        if key not in self._before:
            self._before[key] = x, self.given(numbers, x.dtype)  # which is kept, and with it its place
        return self._before[key][1]

    def _with_given(self, x: Any, inner: Any) -> Any:
        if isinstance(x, Tensor):
            return self.given_before(x, inner)
        if type(x) in (list, tuple) and type(inner) is list:
            return [self._with_given(*each) for each in zip(x, inner)]
        return inner

    def _run_in_place(self, name: str, func: Any, places: list[Any], given: Any, inner: Any) -> Any:
        """What an operation writes is written inside, and rounded there."""
        (args, kwargs), (inner_args, inner_kwargs) = given, inner
        if torch.Tag.inplace_view in func.tags:  # what the shadow says of its shape changes with that of its numbers
            func(*inner_args, **inner_kwargs)
            with no_dispatch():
                func(*args, **kwargs)
            return args[0]
        modelled = functional(func) if name.removesuffix("_") in MODELS else None
        if modelled is not None:
            left = {k: x for k, x in kwargs.items() if k != "out"}
            result = self.run(modelled, args, left)
            into = kwargs["out"] if "out" in kwargs else args[0]
            _write(into, inner_args[0] if "out" not in kwargs else inner_kwargs["out"], result.held)
            return into
        sides = [(args, inner_args, p) if isinstance(p, int) else (kwargs, inner_kwargs, p) for p in places]
        targets = [(outer[place], held[place]) for outer, held, place in sides if is_given(outer, place)]
        first = next((t.dtype for outer, _ in targets for t in tensors(outer) if t.dtype in WIDE), torch.float32)
        out = self._computed(name, None, func, inner_args, inner_kwargs, [first])
        if name not in KNOWN:
            self.elementwise.add(name)
        for outer, held in targets:
            for old, new in zip(tensors(outer), tensors(held)):
                if old.dtype in WIDE:
                    self.wrote_before |= not isinstance(old, Shadow) and old.dtype not in _DOUBLE
                    _write(old, new, new if name in EXACT else self._rounded(name, new, old.dtype, args))
        if out is None:
            return None
        return tuple(outer for outer, _ in targets) if len(targets) > 1 else targets[0][0]

    def _wrapped_natively(self, out: Any) -> Any:
        """Results of an operation without floats, as it gives them natively."""

        def wrapped(x: Any) -> Any:
            constant = isinstance(x, Tensor) and x.dtype in WIDE
            return Shadow(self.given(x.to(WIDE[x.dtype]), x.dtype), x.dtype) if constant else x

        return tree_map(wrapped, out)


def _constant(x: Any, dtype: torch.dtype) -> Any:
    """A number of Python's that becomes one of a format, in exact arithmetic, too."""
    if type(x) is not float or dtype in _DOUBLE or x == 0:
        return x
    return torch.tensor(x, dtype=dtype).item()


_INSIDE = frozenset((torch.float64, torch.complex128, torch.float32, torch.complex64))
_DOUBLE = frozenset((torch.float64, torch.complex128))
_TINY_HALF = 2.0**-25
"""Half the distance of float16's numbers next to zero."""


def _write(outer: Tensor, inner: Tensor, numbers: Tensor) -> None:
    if numbers is not inner:
        inner.copy_(numbers)
    if not isinstance(outer, Shadow):
        outer.copy_(inner)


def _mapped(function: Callable[[Any], Any], out: Any) -> Any:
    if isinstance(out, Tensor):
        return function(out)
    if isinstance(out, (list, tuple)):
        return type(out)(_mapped(function, x) for x in out) if type(out) in (list, tuple) else tree_map(function, out)
    return out


def _power_of_two(x: Any) -> bool:
    return isinstance(x, (int, float)) and x != 0 and abs(math.frexp(x)[0]) == 0.5
