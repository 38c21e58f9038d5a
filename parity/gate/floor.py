"""The noise floor of a function that is not the reference's, estimated from that of the reference.

How far each element rounds is known of the reference alone. Of another function it is only about known how far all
elements of a tensor do: what is said of the widest one holds for all of them, and grows as the numbers do. How far v
rounds is proportional to the square of the gradient, m and the parameters follow the gradient, and each of the three at
least what the update adds to it. Of 14 other functions, each refactored in 5 ways, in float64 and float32, the largest
z over the case and its probes was 3.3, of limits from 9.9 on.
"""

from math import isfinite

import numpy as np

from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.quantities import STATE, TensorKey
from parity.tensors import elements_of
from reference.config import Config


def floor_of(answer: Pairs, before: Floats, config: Config) -> dict[TensorKey, float]:
    """The widest noise floor of every tensor that a subject answered with, were it a function of its own.

    answer: its answer (actual) beside the reference's (expected). before: parameters, m and v before the step,
    (3, elements). Never less than the widest floor that the reference has in that tensor.
    """
    tensors = answer.by_key()
    # Of what the reference has nothing but zeros in, all that is known is how far the quantity rounds elsewhere.
    relative: dict[str, float] = {}
    for key, tensor in tensors.items():
        if size := _size(tensor.expected):
            relative[key.quantity] = max(relative.get(key.quantity, 0.0), _size(tensor.sigma) / size)
    found = {}
    for key, tensor in tensors.items():
        widest = _size(tensor.sigma)
        if _size(tensor.expected):
            found[key] = widest * _growth(key, tensors, before, config)
        else:
            found[key] = max(widest, relative.get(key.quantity, 0.0) * _size(tensor.actual))
    return found


def widened(pairs: Pairs, *floors: dict[TensorKey, float]) -> Pairs:
    """The pairs with the widest of some floors for all elements of a tensor."""
    sizes = np.diff(pairs.layout.starts)
    widest = [max(floor.get(key, 0.0) for floor in floors) for key in pairs.keys]
    return pairs.with_sides(sigma=np.repeat(np.array(widest, dtype=np.float64), sizes))


def _growth(key: TensorKey, tensors: dict[TensorKey, Pairs], before: Floats, config: Config) -> float:
    """How many times as far as the reference's a tensor rounds, at least once."""
    tensor = tensors[key]
    if key.quantity not in STATE:
        return _ratio(tensor.actual, tensor.expected)
    start = before[STATE.index(key.quantity), elements_of(config, (key.name,))]
    moved = _ratio(tensor.actual - start, tensor.expected - start)
    grad = tensors.get(TensorKey("grad", key.name))
    if grad is None:
        return moved
    of_grad = _ratio(grad.actual, grad.expected)
    return max(moved, of_grad**2 if key.quantity == "v" else of_grad)


def _ratio(actual: Floats, expected: Floats) -> float:
    """How many times as large the largest element is, at least once."""
    size = _size(expected)
    ratio = _size(actual) / size if size else 1.0
    return max(1.0, ratio) if isfinite(ratio) else 1.0


def _size(values: Floats) -> float:
    """Of the largest finite element."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
