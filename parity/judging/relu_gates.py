"""ReLUs at their kink: rounding alone may decide their gate either way, and both ways are the same function.

All noisy replicas take the gates of the exact replay, so that the noise floor knows nothing of the jump between the
two sides. Where an answer is outside, the gates that lie within the noise floor of zero may be turned, and the
answer is then held to what the reference gives with exactly these gates. Half a slope is not explained by that.
(The square of a ReLU has no jump; its replicas decide for themselves, and only gates that stay shut are turned.)
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from parity.judging.judge import Judge
from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Expectation, Gate, Nearness, Oracle
from parity.quantities import STATE
from reference.config import Step

_MAX_ROUNDS = 6
"""How often gates are chosen anew, given the effect of those turned before."""

_PAIRED = 16
"""Of so many gates nearest to their kink, pairs are turned together."""

Compare = Callable[[Step, Step], Pairs]
"""Puts the subject's answer beside an expected step and its noise floor."""


def with_own_gates(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, compare: Compare
) -> tuple[Expectation, Pairs]:
    """Expectation and pairs, with the gates turned that explain the subject's answer, if any do.

    An effect of a gate is what the exact replay changes by when the gate is turned. Matching pursuit (Mallat and Zhang
    1993) picks, one after another, the gate whose effect explains most of what is left between subject and reference;
    then the effects are computed anew, from the gates as they stand.
    """
    if expectation.near and judge.count_outside(_early(pairs)):
        # An effect is as uncertain as the gradient that the gate lets through, or as its input besides.
        for with_input in (False, True):
            found = _attempt(oracle, judge, expectation, pairs, compare, with_input)
            if found is not None:
                return found
    return expectation, pairs


def _attempt(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, compare: Compare, with_input: bool
) -> tuple[Expectation, Pairs] | None:
    before, batch, near = expectation.before, expectation.batch, dict(expectation.near)
    sites = expectation.step.sites is not None
    gates = frozenset[Gate]()
    seen = {gates}
    distances: dict[Gate, float] = {}
    for _ in range(_MAX_ROUNDS):
        if not near:
            return None
        effects = []
        pairs = _early(pairs)
        for gate in near:
            step = oracle.exact_step(before, batch, gates ^ {gate}, sites)
            if step is None:
                return None
            effects.append(_early(compare(step, step)).expected - pairs.expected)
        left, sigma = pairs.actual - pairs.expected, pairs.sigma
        sigma = np.maximum(sigma, np.where(sigma > 0, oracle.form.u * np.abs(pairs.expected), 0.0))
        if oracle.smooth:
            chosen = _dead(left, np.array(effects), sigma)
        else:
            chosen = _pursuit(left, np.array(effects), list(near.values()), sigma, with_input)
        gates = gates ^ {list(near)[i] for i in chosen}
        distances |= {gate: nearness.distance for gate, nearness in near.items()}
        if gates in seen or oracle.exact_step(before, batch, gates) is None:
            return None
        if not _plausible([distances[gate] for gate in gates], len(near), judge.false_alarm):
            return None
        seen.add(gates)
        turned = oracle.expect(before, batch, gates, sites)
        near = dict(turned.near)
        pairs = compare(turned.step, turned.sigma)
        if not judge.count_outside(_early(pairs)):
            return turned, pairs
    return None


def _early(pairs: Pairs) -> Pairs:
    """What comes before Adam, which makes a jump of what is none; all pairs, if nothing does."""
    early = pairs.only({key for key in pairs.keys if key.quantity not in STATE})
    return early if early.keys else pairs


def _plausible(distances: Sequence[float], near: int, false_alarm: float) -> bool:
    """Whether rounding may have moved so many inputs so far, whichever of those near to their kink they are.

    The chance that it moves just these, by Student's t for each, times the number of such sets (Bonferroni).
    """
    from scipy.special import stdtr

    chance = sum(math.log(2 * stdtr(REPLICAS - 1, -distance)) for distance in distances)
    sets = math.lgamma(near + 1) - math.lgamma(len(distances) + 1) - math.lgamma(max(0, near - len(distances)) + 1)
    return chance + sets >= math.log(false_alarm)


def _dead(left: Floats, effects: Floats, sigma: Floats) -> list[int]:
    """Of squared ReLUs, the gates that alone can make an element differ from an exact zero; rounding decides how."""
    dead = (sigma == 0) & (left != 0)
    return [i for i, effect in enumerate(effects) if effect[dead].any()]


def _pursuit(left: Floats, effects: Floats, near: Sequence[Nearness], sigma: Floats, with_input: bool) -> list[int]:
    """Rows of effects, (gates, elements), that add up to what is left, as far as rounding lets one tell.

    A row is taken while that makes what is left more likely: elements within e·(1 ± noise) ± sigma of the effect e
    instead of within ± sigma of zero, against the chance that rounding moves an input so far.
    """
    usable = np.isfinite(left) & np.isfinite(sigma) & np.isfinite(effects).all(axis=0)
    # An element that is exactly zero on this side of the kink has no floor here, and some on the other.
    scale = np.maximum(sigma, 2.0**-10 * np.abs(effects).max(axis=0))
    usable &= scale > 0
    effects, left = effects[:, usable] / scale[usable], left[usable] / scale[usable]
    inputs = [1 / max(n.distance, 1e-3) if with_input else 0.0 for n in near]
    noise = np.minimum([math.hypot(n.noise, x) for n, x in zip(near, inputs, strict=True)], 1e3)
    spread = (noise[:, None] * effects) ** 2
    price = np.array([n.distance**2 for n in near])
    variance = np.ones(len(left))
    chosen: list[int] = []
    # The gates of one unit at two positions go together: each alone may overshoot, so pairs of the nearest count, too.
    nearest = sorted(range(len(near)), key=lambda i: near[i].distance)[:_PAIRED]
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
