"""ReLUs at their kink: rounding alone may decide their gate either way, and both ways are the same function.

All noisy replicas take the gates of the exact replay, so that the noise floor knows nothing of the jump between the
two sides. Where an answer is outside, the gates that lie within the noise floor of zero may be turned, and the
answer is then held to what the reference gives with exactly these gates. Half a slope is not explained by that.
(The square of a ReLU has no jump; its replicas decide for themselves, and only gates that stay shut are turned.)
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.judging.pairs import Tensors
from parity.judging.result import Judge
from parity.number_formats import Floats
from parity.oracle.floor import Floor, Kink, Nearness, Point
from parity.oracle.noisy_replay import REPLICAS
from reference.config import Step

MAX_ROUNDS = 6
"""How often gates are chosen anew, given the effect of those turned before."""

PAIRED = 16
"""Of so many gates nearest to their kink, pairs are turned together."""

Paired = Callable[[Step, Step], Sequence[Tensors]]
"""Puts the subject's answer beside an expected step and its noise floor."""


@dataclass
class Turned:
    """The step with some gates turned: the pairs, how many gates, and where the run stands after it."""

    pairs: Sequence[Tensors]
    gates: int
    after: Point


def turned(
    floor: Floor,
    before: Point,
    batch: list[list[int]],
    pairs: Sequence[Tensors],
    kinks: Mapping[Kink, Nearness],
    judge: Judge,
    paired: Paired,
) -> Turned | None:
    """The step with the gates turned that explain the subject's answer; None where none explain it.

    An effect of a gate is what the exact replay changes by when the
    gate is turned. Matching pursuit picks, one after another, the gate whose effect explains most of what is left
    between subject and reference; then the effects are computed anew, from the gates as they stand.
    """
    after = floor.point
    try:
        for wide in (False, True):
            found = _attempt(floor, before, batch, pairs, kinks, judge, paired, wide)
            if found is not None:
                return found
        return None
    finally:
        floor.point = after


def _attempt(
    floor: Floor,
    before: Point,
    batch: list[list[int]],
    pairs: Sequence[Tensors],
    kinks: Mapping[Kink, Nearness],
    judge: Judge,
    paired: Paired,
    wide: bool,
) -> Turned | None:
    """`turned` with one notion of how noisy effects are: as the gradient alone, or wide, as the input as well."""
    gates = frozenset[Kink]()
    seen = {gates}
    distances: dict[Kink, float] = {}
    for _ in range(MAX_ROUNDS):
        effects = []
        pairs = early(pairs)
        expected = _flat([t.expected for t in pairs])
        for kink in kinks:
            step = floor.exact(before, batch, gates ^ {kink})
            if step is None:
                return None
            effects.append(_flat([t.expected for t in early(paired(step, step))]) - expected)
        left, sigma = _flat([t.actual for t in pairs]) - expected, _flat([t.sigma for t in pairs])
        sigma = np.maximum(sigma, np.where(sigma > 0, floor.form.u * np.abs(expected), 0.0))
        if floor.smooth:
            chosen = _dead(left, np.array(effects), sigma)
        else:
            chosen = _pursuit(left, np.array(effects), list(kinks.values()), sigma, wide)
        gates = gates ^ {list(kinks)[i] for i in chosen}
        distances |= {kink: near.distance for kink, near in kinks.items()}
        step = floor.exact(before, batch, gates)
        if gates in seen or step is None:
            return None
        if not _plausible([distances[kink] for kink in gates], len(kinks), judge.false_alarm):
            return None
        seen.add(gates)
        floor.point = before
        spread, kinks = floor.train_step(batch, judge.limit, gates)
        pairs = paired(step, spread)
        if not any(judge.outside(t).any() for t in early(pairs)):
            return Turned(pairs, len(gates), floor.point)
    return None


def early(pairs: Sequence[Tensors]) -> list[Tensors]:
    """What comes before Adam, which makes a jump of what is none; all pairs, if nothing does."""
    return [t for t in pairs if t.quantity not in ("m", "v", "param")] or list(pairs)


def _plausible(distances: Sequence[float], kinks: int, false_alarm: float) -> bool:
    """Whether rounding may have moved so many inputs so far, whichever of the kinks they belong to.

    The chance that it moves just these, by Student's t for each, times the number of such sets (Bonferroni).
    """
    from scipy.special import stdtr

    chance = sum(math.log(2 * stdtr(REPLICAS - 1, -distance)) for distance in distances)
    sets = math.lgamma(kinks + 1) - math.lgamma(len(distances) + 1) - math.lgamma(max(0, kinks - len(distances)) + 1)
    return chance + sets >= math.log(false_alarm)


def _flat(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate([array.ravel() for array in arrays])


def _dead(left: Floats, effects: Floats, sigma: Floats) -> list[int]:
    """Of squared ReLUs, the gates that alone can make an element differ from an exact zero; rounding decides how."""
    dead = (sigma == 0) & (left != 0)
    return [i for i, effect in enumerate(effects) if effect[dead].any()]


def _pursuit(left: Floats, effects: Floats, near: Sequence[Nearness], sigma: Floats, wide: bool) -> list[int]:
    """Rows of effects, (kinks, elements), that add up to what is left, as far as rounding lets one tell.

    A row is taken while that makes what is left more likely: elements within e·(1 ± noise) ± sigma of the effect e
    instead of within ± sigma of zero, against the chance that rounding moves an input so far.
    """
    usable = np.isfinite(left) & np.isfinite(sigma) & np.isfinite(effects).all(axis=0)
    # An element that is exactly zero on this side of the kink has no floor here, and some on the other.
    scale = np.maximum(sigma, 2.0**-10 * np.abs(effects).max(axis=0))
    usable &= scale > 0
    effects, left = effects[:, usable] / scale[usable], left[usable] / scale[usable]
    inputs = [1 / max(n.distance, 1e-3) if wide else 0.0 for n in near]
    noise = np.minimum([math.hypot(n.noise, x) for n, x in zip(near, inputs, strict=True)], 1e3)
    spread = (noise[:, None] * effects) ** 2
    price = np.array([n.distance**2 for n in near])
    variance = np.ones(len(left))
    chosen: list[int] = []
    # The gates of one unit at two positions go together: each alone may overshoot, so pairs of the nearest count, too.
    nearest = sorted(range(len(near)), key=lambda i: near[i].distance)[:PAIRED]
    moves = [[i] for i in range(len(near))] + [list(pair) for pair in itertools.combinations(nearest, 2)]
    while True:
        best, most = None, 0.0
        for move in moves:
            wider = variance + spread[move].sum(axis=0)
            after = left - effects[move].sum(axis=0)
            gain = (left**2 / variance - after**2 / wider - np.log(wider / variance)).sum() - price[move].sum()
            if gain > most and not set(move) & set(chosen) and (len(move) == 1 or best is None or len(best) == 2):
                best, most = move, gain
        if best is None:
            return chosen
        chosen += best
        left, variance = left - effects[best].sum(axis=0), variance + spread[best].sum(axis=0)
