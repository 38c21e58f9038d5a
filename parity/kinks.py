"""ReLUs at their kink: rounding alone may decide their gate either way, and both ways are the same function.

All noisy replicas take the gates of the exact replay, so that the noise floor knows nothing of the jump between the
two sides. Where an answer is outside, the gates that lie within the noise floor of zero may be turned, and the
answer is then held to what the reference gives with exactly these gates. Half a slope is not explained by that.
(The square of a ReLU has no jump; its replicas decide for themselves, and only gates that stay shut are turned.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.compare import Tensors
from parity.formats import Floats
from parity.oracle import Floor, Kink, Point
from reference.config import Step

MAX_ROUNDS = 6
"""How often gates are chosen anew, given the effect of those turned before."""

Paired = Callable[[Step, Step], list[Tensors]]
"""Puts the subject's answer beside an expected step and its noise floor."""


@dataclass
class Turned:
    """The step with some gates turned: the pairs, how many gates, and where the run stands after it."""

    pairs: list[Tensors]
    gates: int
    after: Point


def turned(
    floor: Floor,
    before: Point,
    batch: list[list[int]],
    pairs: list[Tensors],
    kinks: Mapping[Kink, float],
    limit: float,
    paired: Paired,
    outside: Callable[[list[Tensors]], int],
) -> Turned | None:
    """The step with the gates turned that explain the subject's answer; None where none explain it.

    kinks: the gates, with the relative noise of their effects. An effect is what the exact replay changes by when the
    gate is turned. Matching pursuit picks, one after another, the gate whose effect explains most of what is left
    between subject and reference; then the effects are computed anew, from the gates as they stand.
    """
    after, gates = floor.point, frozenset[Kink]()
    seen = {gates}
    try:
        for _ in range(MAX_ROUNDS):
            effects = []
            pairs = _early(pairs)
            expected = _flat([t.expected for t in pairs])
            for kink in kinks:
                step = floor.exact(before, batch, gates ^ {kink})
                if step is None:
                    return None
                effects.append(_flat([t.expected for t in _early(paired(step, step))]) - expected)
            left, sigma = _flat([t.actual for t in pairs]) - expected, _flat([t.sigma for t in pairs])
            sigma = np.maximum(sigma, np.where(sigma > 0, floor.form.u * np.abs(expected), 0.0))
            chosen = _pursuit(left, np.array(effects), np.array(list(kinks.values())), sigma, smooth=floor.smooth)
            gates = gates ^ {list(kinks)[i] for i in chosen}
            step = floor.exact(before, batch, gates)
            if gates in seen or step is None:
                return None
            seen.add(gates)
            floor.point = before
            spread, kinks = floor.train_step(batch, limit, gates)
            pairs = paired(step, spread)
            if not outside(pairs):
                return Turned(pairs, len(gates), floor.point)
        return None
    finally:
        floor.point = after


def _early(pairs: Sequence[Tensors]) -> list[Tensors]:
    """What comes before Adam, which makes a jump of what is none; all, if nothing does."""
    return [t for t in pairs if t.quantity not in ("m", "v", "param")] or list(pairs)


def _flat(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate([array.ravel() for array in arrays])


def _pursuit(left: Floats, effects: Floats, noise: Floats, sigma: Floats, smooth: bool) -> list[int]:
    """Rows of effects, (kinks, elements), that add up to what is left, as far as rounding lets one tell.

    noise: of each effect, relative to it. A row is taken while that makes what is left more likely: an element
    within e·(1 ± noise) ± sigma of it instead of within ± sigma of zero.
    """
    if smooth:
        # Only an open gate can make an element differ from an exact zero; which way it tends, rounding decides.
        dead = (sigma == 0) & (left != 0)
        return [i for i, effect in enumerate(effects) if effect[dead].any()]
    usable = np.isfinite(left) & np.isfinite(sigma) & np.isfinite(effects).all(axis=0)
    # An element that is exactly zero on this side of the kink has no floor here, and some on the other.
    scale = np.maximum(sigma, 2.0**-10 * np.abs(effects).max(axis=0))
    usable &= scale > 0
    effects, left = effects[:, usable] / scale[usable], left[usable] / scale[usable]
    spread = (np.minimum(noise, 1e3)[:, None] * effects) ** 2
    variance = np.ones(len(left))
    chosen: list[int] = []
    while len(chosen) < len(effects):
        wider = variance + spread
        gains = (left**2 / variance - (left - effects) ** 2 / wider - np.log(wider / variance)).sum(axis=1)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        if not gains[best] > 0:
            break
        chosen.append(best)
        left, variance = left - effects[best], wider[best]
    return chosen
