"""ReLUs at their kink: rounding alone may decide their gate either way, and both ways are the same function.

All noisy replicas take the gates of the exact replay, so that the noise floor knows nothing of the jump between the
two sides. Where an answer is outside, the gates that lie within the noise floor of zero may be decided otherwise, and
the answer is then held to what the reference gives with exactly these gates. Half a slope is not explained by that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from parity.compare import Tensors
from parity.formats import Floats
from parity.oracle import Floor, Kink, Point
from reference.config import Step

Paired = Callable[[Step, Step], list[Tensors]]
"""Puts the subject's answer beside an expected step and its noise floor."""


@dataclass
class Turned:
    """The step with some gates turned: the pairs, how many gates, and where the run stands after it."""

    pairs: list[Tensors]
    gates: int
    after: Point


def turned(
    floor: Floor, before: Point, batch: list[list[int]], pairs: Sequence[Tensors], kinks: Sequence[Kink], paired: Paired
) -> Turned | None:
    """The step with the turned gates that explain the subject's answer best, None where no gate helps.

    A gate's effect is what the exact replay changes by when it is turned; matching pursuit picks, one after another,
    the gate whose effect removes most of what is left between subject and reference.
    """
    actual = np.concatenate([t.actual.ravel() for t in pairs])
    expected = np.concatenate([t.expected.ravel() for t in pairs])
    sigma = np.concatenate([t.sigma.ravel() for t in pairs])
    effects = []
    for kink in kinks:
        step = floor.exact(before, batch, [kink])
        if step is None:
            return None
        other = paired(step, step)
        effects.append(np.concatenate([t.expected.ravel() for t in other]) - expected)
    chosen = _pursuit(actual - expected, np.array(effects), sigma, floor.form.u * np.abs(expected))
    if not chosen:
        return None
    after = floor.point
    floor.point = before
    step = floor.exact(before, batch, [kinks[i] for i in chosen])
    spread, _ = floor.train_step(batch, 0.0, [kinks[i] for i in chosen])
    result = None if step is None else Turned(paired(step, spread), len(chosen), floor.point)
    floor.point = after
    return result


def _pursuit(left: Floats, effects: Floats, sigma: Floats, rounding: Floats) -> list[int]:
    """Rows of effects, (kinks, elements), that add up to what is left, measured in units of rounding."""
    usable = np.isfinite(left) & np.isfinite(sigma) & np.isfinite(effects).all(axis=0)
    # An element that is exactly zero on this side of the kink has no floor here, and some on the other.
    scale = np.maximum(np.maximum(sigma, rounding), 2.0**-10 * np.abs(effects).max(axis=0))
    usable &= scale > 0
    weighted, left = effects[:, usable] / scale[usable], left[usable] / scale[usable]
    sizes = (weighted**2).sum(axis=1)
    chosen: list[int] = []
    while len(chosen) < len(weighted):
        gains = 2 * (weighted @ left) - sizes
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        if not gains[best] > 0:
            break
        chosen.append(best)
        left = left - weighted[best]
    return chosen
