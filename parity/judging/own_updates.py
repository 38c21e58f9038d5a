"""Adam where it is steep: near a gradient of zero its update is little but a sign, which rounding may turn.

A handful of noisy replicas does not show what one subject in a thousand does there. So where a moment or parameter
is outside and the gradient it came from is not, the update is judged by itself: by what the reference's Adam makes of
the subject's own gradient, within the rounding of that update alone. A wrong Adam is caught by that as before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.judging.pairs import Tensors, distance, over_floor
from parity.judging.result import Judge
from parity.number_formats import Floats
from parity.oracle.floor import Floor
from parity.oracle.replay import flat

ORDER = ("param", "m", "v")


@dataclass
class Judged:
    """A step whose updates are judged by themselves where need be, and at how many elements."""

    pairs: list[Tensors]
    elements: int = 0


def judged(pairs: Sequence[Tensors], previous: Floats | None, floor: Floor, number: int, judge: Judge) -> Judged:
    """The pairs, with the update of the subject's own gradient as expected where only that explains them.

    previous: (3, elements), the subject's parameters, m and v before the step; None where it does not expose them.
    """
    grads = {t.tensor: t for t in pairs if t.quantity == "grad"}
    late = [t for t in pairs if t.quantity in ORDER and judge.outside(t).any()]
    if previous is None or not grads or not late:
        return Judged(list(pairs))
    own_grads = flat(floor.config, {name: t.actual for name, t in grads.items()})
    own, spread = floor.own_update(number, previous, own_grads)
    result = Judged([])
    for t in pairs:
        if any(t is other for other in late):
            expected, sigma = own[ORDER.index(t.quantity)][t.tensor], spread[ORDER.index(t.quantity)][t.tensor]
            explained = over_floor(distance(t.actual, expected), sigma) <= judge.limit
            explained &= judge.outside(t) & ~judge.outside(grads[t.tensor])
            result.elements += int(np.count_nonzero(explained))
            t = replace(
                t,
                expected=np.where(explained, expected, t.expected),
                sigma=np.where(explained, sigma, t.sigma),
                loose=t.sigma,
            )
        result.pairs.append(t)
    return result


def adopted(before: Sequence[Tensors], after: Sequence[Tensors]) -> Iterator[tuple[int, str, Floats]]:
    """Where the updates were judged by themselves: 0 to 2 for param, m or v, the tensor, and how far they moved."""
    for old, new in zip(before, after, strict=True):
        if new is not old:
            yield ORDER.index(new.quantity), new.tensor, new.expected - old.expected
