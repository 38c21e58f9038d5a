"""The tensors of a model as one vector, each row by row in the order of `Config.shapes`, and by name."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from parity.number_formats import Floats
from reference.config import Config, State

_Shape = tuple[int, ...]


class TensorViews(dict[str, Any]):
    """Tensors by name: views of a vector, (elements,) or (elements, R), which are made when one of them is looked at.

    Most are not: from step to step it is the vectors that go on.
    """

    def __init__(self, config: Config, vector: Floats) -> None:
        super().__init__()
        self.config, self.vector = config, vector

    def _made(self) -> "TensorViews":
        if not super().__len__():
            replicas = self.vector.shape[1:]
            for name, start, end, shape in places(self.config):
                super().__setitem__(name, self.vector[start:end].reshape(shape + replicas))
        return self

    def __getitem__(self, name: str) -> Any:
        return dict.__getitem__(self._made(), name)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self._made())

    def __len__(self) -> int:
        return dict.__len__(self._made())

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self._made(), name)

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self._made(), other)

    @override
    def get(self, name: str, default: Any = None) -> Any:
        return dict.get(self._made(), name, default)

    @override
    def keys(self) -> Any:
        return dict.keys(self._made())

    @override
    def values(self) -> Any:
        return dict.values(self._made())

    @override
    def items(self) -> Any:
        return dict.items(self._made())


def flat(config: Config, tensors: dict[str, Any]) -> Floats:
    """All tensors in one vector."""
    if isinstance(tensors, TensorViews):
        return tensors.vector
    return np.concatenate([np.asarray(tensors[name], dtype=np.float64).ravel() for name in config.shapes()])


def vectors(config: Config, state: State) -> Floats:
    """Parameters, m and v of a state, (3, elements)."""
    return np.array([flat(config, tensors) for tensors in (state.params, state.m, state.v)])


def named_state(config: Config, tensors: Floats, number: int) -> State:
    """The state that `vectors` takes apart; its matrices are arrays."""
    params, m, v = (TensorViews(config, vector) for vector in tensors)
    return State(params, m, v, number)


def listed_state(config: Config, state: State) -> State:
    """The same state with nested lists of floats, which nobody else holds."""
    params, m, v = (
        {name: vector[start:end].reshape(shape).tolist() for name, start, end, shape in places(config)}
        for vector in vectors(config, state)
    )
    return State(params, m, v, state.step)


TIED = ("wte", "lm_head")
"""What are one matrix where the head is tied."""


def with_tied_head(config: Config, tensors: Floats) -> Floats:
    """Parameters, m and v, (3, elements), with those of wte for those of lm_head."""
    tensors, (wte, lm_head) = tensors.copy(), (elements_of(config, (name,)) for name in TIED)
    tensors[:, lm_head] = tensors[:, wte]
    return tensors


@lru_cache(maxsize=256)
def elements_of(config: Config, names: tuple[str, ...]) -> NDArray[np.intp]:
    """Where the elements of these tensors, one after another, lie in the vector."""
    spans = {name: np.arange(start, end) for name, start, end, _ in places(config)}
    return np.concatenate([np.zeros(0, dtype=np.intp), *(spans[name] for name in names)])


@lru_cache(maxsize=256)
def places(config: Config) -> tuple[tuple[str, int, int, _Shape], ...]:
    """Name, start, end and shape of every tensor in the vector."""
    ends = np.cumsum([rows * columns for rows, columns in config.shapes().values()]).tolist()
    return tuple(
        (name, end - shape[0] * shape[1], end, shape)
        for (name, shape), end in zip(config.shapes().items(), ends, strict=True)
    )
