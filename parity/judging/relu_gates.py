"""ReLUs at their kink: rounding alone may decide their gate either way, and both ways are the same function.

All noisy replicas take the gates of the exact replay, so that the noise floor knows nothing of the jump between the
two sides. Where an answer is outside, the gates that lie within the noise floor of zero may be turned, and the
answer is then held to what the reference gives with exactly these gates. Half a slope is not explained by that.
(The square of a ReLU has no jump; its replicas decide for themselves, and only gates that stay shut are turned.)
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.answers import as_array
from parity.errors import SubjectError, UndecidedAnswer
from parity.judging.judge import Judge
from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Decisions, Expectation, Gate, Nearness, Oracle, Point
from parity.quantities import STATE
from reference.config import Step

_MAX_ROUNDS = 6
"""How often gates are chosen anew, given the effect of those turned before."""

_PAIRED = 16
"""Of so many gates nearest to their kink, pairs are turned together."""

_MOST_OPERATIONS = 4e9
"""Scalar operations that a search may take for each round: some ten seconds."""

_NEAR = 0.25
"""An observed vector stands for an expected one that it differs from by no more than this part."""

SHORT_DIGITS = 11
"""In formats of so few digits many gates are near to their kink at every step, and a subject is asked for its own."""

Shown = Mapping[Gate, bool]
"""What the gates of a subject did: True for those that were open."""

Compare = Callable[[Step, Step], Pairs]
"""Puts the subject's answer beside an expected step and its noise floor."""


def with_own_gates(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, compare: Compare
) -> tuple[Expectation, Pairs]:
    """Expectation and pairs, with the gates turned that explain the answer of a subject that does not show its own.

    An effect of a gate is what the exact replay changes by when the gate is turned. Matching pursuit (Mallat and Zhang
    1993) picks, one after another, the gate whose effect explains most of what is left between subject and reference;
    then the effects are computed anew, from the gates as they stand. It begins with those that were observed, if any
    were: two positions of nearly the same vector may have been taken for each other. Gates whose inputs vanish in the
    format are shut together first: what underflows takes whole layers along, and too many to be picked one by one.
    Raises UndecidedAnswer where it would take too long, or where gates might explain the answer, and none were found
    that do.
    """
    if not expectation.near or not judge.count_outside(_early(pairs)):
        return expectation, pairs
    vanished = {gate: False for gate, nearness in expectation.near.items() if nearness.vanishes and nearness.natural}
    if vanished and not oracle.smooth:
        sites = expectation.step.sites is not None
        shut = oracle.expect(expectation.before, expectation.batch, {**expectation.decided, **vanished}, sites)
        beside = compare(shut.step, shut.sigma)
        if not judge.count_outside(_early(beside)):
            return shut, beside
    operations = sum(oracle.program(tokens).nodes for tokens in expectation.batch) * len(expectation.near)
    if operations > _MOST_OPERATIONS:
        raise UndecidedAnswer(_undecided(expectation, "to try them all would take too long"))
    # An effect is as uncertain as the gradient that the gate lets through, or as its input besides.
    for with_input in (False, True):
        found = _attempt(oracle, judge, expectation, pairs, compare, with_input)
        if found is not None:
            return found
    if judge.form.digits <= SHORT_DIGITS and oracle.config.n_embd == 1 and _may_have_either_sign(oracle, expectation):
        raise UndecidedAnswer(
            f"Rounding decides the sign of a position's only number at step {expectation.before.number}, and the norm "
            "makes that of it; n_embd 2 or more has no such positions."
        )
    if judge.form.digits <= SHORT_DIGITS and _may_explain(oracle, judge, expectation, _early(pairs), compare):
        raise UndecidedAnswer(_undecided(expectation, "which of them, if any, explain the answer was not found"))
    return expectation, pairs


def expect_with_shown(
    oracle: Oracle, judge: Judge, point: Point, batch: list[list[int]], shown: Shown, sites: bool
) -> Expectation | None:
    """What is expected of a subject with these gates, wherever rounding may have decided them.

    None where that is not for rounding to explain, or where a gate near to its kink is not shown.
    """
    decided = oracle.decisions(point, batch, shown)
    expectation = oracle.expect(point, batch, decided, sites)
    far = decided.keys() - expectation.near.keys()
    if far:  # they are wrong, and the others are what is left of it
        decided = {gate: opened for gate, opened in decided.items() if gate not in far}
        expectation = oracle.expect(point, batch, decided, sites)
    if not shown.keys() >= expectation.near.keys() >= decided.keys():
        return None
    # Each gate of a dead band lies near to its kink; that they all close is not rounding.
    distances = [expectation.near[gate].distance for gate in decided]
    return expectation if plausible(distances, len(expectation.near), judge.false_alarm) else None


def shown_gates(oracle: Oracle, batch: list[list[int]], sites: Any) -> Shown | None:
    """What a subject did with its gates, by its sites; None where these do not tell."""
    if oracle.smooth or not isinstance(sites, dict):
        return None
    shown: dict[Gate, bool] = {}
    start = 0
    try:
        for number, tokens in enumerate(batch):
            program = oracle.program(tokens)
            for layer in range(oracle.config.n_layer):
                site = f"layer{layer}.mlp.post"
                for slots, given in zip(program.sites[site], sites[site][start : start + program.n], strict=True):
                    opened = as_array(given, site) > 0
                    shown |= {(number, int(slot)): bool(x) for slot, x in zip(slots, opened, strict=True)}
            start += program.n
    except (SubjectError, ValueError, TypeError, KeyError, IndexError):  # sites that were not asked for
        return None
    return shown


def observed_gates(oracle: Oracle, point: Point, batch: list[list[int]], inputs: Floats) -> Shown | None:
    """What a subject did with its gates, by what its ReLUs were seen to be given, (vectors, 4·n_embd), in any order.

    Each position's vector is that which lies nearest to the expected one; where none lies near, nothing is known.
    """
    shown: dict[Gate, bool] = {}
    step = oracle.exact_step(point, batch, sites=True)
    if step is None or not np.isfinite(inputs).all():
        return None
    start = 0
    for number, tokens in enumerate(batch):
        program = oracle.program(tokens)
        for layer in range(oracle.config.n_layer):
            expected = np.array(step.sites[f"layer{layer}.mlp.pre"][start : start + program.n])
            distances = np.linalg.norm(expected[:, None] - inputs, axis=2)
            for slots, row, distance in zip(program.sites[f"layer{layer}.mlp.post"], expected, distances, strict=True):
                nearest = int(np.argmin(distance))
                if distance[nearest] <= _NEAR * np.linalg.norm(row):
                    own = zip(slots, inputs[nearest], strict=True)
                    shown |= {(number, int(slot)): bool(x > 0) for slot, x in own}
        start += program.n
    return shown


def _undecided(expectation: Expectation, why: str) -> str:
    return (
        f"Rounding may turn any of {len(expectation.near)} ReLUs at step {expectation.before.number}, and {why}; a "
        "subject that shows its sites layer0.mlp.post and so on (see help(parity.Step)) is held to the gates that it "
        "took."
    )


def _attempt(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, compare: Compare, with_input: bool
) -> tuple[Expectation, Pairs] | None:
    before, batch, near = expectation.before, expectation.batch, dict(expectation.near)
    sites = expectation.step.sites is not None
    decided = dict(expectation.decided)
    seen = [decided]
    distances: dict[Gate, float] = {}
    for _ in range(_MAX_ROUNDS):
        if not near:
            return None
        pairs = _early(pairs)
        effects = _effects(oracle, expectation, pairs, near, decided, compare)
        if effects is None:
            return None
        left, sigma = pairs.actual - pairs.expected, pairs.sigma
        sigma = np.maximum(sigma, np.where(sigma > 0, oracle.form.u * np.abs(pairs.expected), 0.0))
        if oracle.smooth:
            chosen = _dead(left, effects, sigma)
        else:
            chosen = _pursuit(left, effects, list(near.values()), sigma, with_input)
        for gate in (list(near)[i] for i in chosen):
            decided = _turned(decided, gate, near[gate])
        distances |= {gate: nearness.distance for gate, nearness in near.items()}
        distances |= {gate: math.inf for gate in decided if gate not in distances}
        if decided in seen or oracle.exact_step(before, batch, decided) is None:
            return None
        if not plausible([distances[gate] for gate in decided], len(near), judge.false_alarm):
            return None
        seen.append(decided)
        turned = oracle.expect(before, batch, decided, sites)
        near = dict(turned.near)
        pairs = compare(turned.step, turned.sigma)
        if not judge.count_outside(_early(pairs)):
            return turned, pairs
    return None


def _turned(decided: Decisions, gate: Gate, nearness: Nearness) -> dict[Gate, bool]:
    """The decisions, with one gate turned: left to its input again, or decided against it."""
    others = {other: opened for other, opened in decided.items() if other != gate}
    return others if gate in decided else {**others, gate: not nearness.natural}


def _effects(
    oracle: Oracle,
    expectation: Expectation,
    pairs: Pairs,
    near: Mapping[Gate, Nearness],
    decided: Decisions,
    compare: Compare,
) -> Floats | None:
    """What the exact replay changes by when each gate is turned, (gates, elements); None where Python would raise."""
    sites, effects = expectation.step.sites is not None, []
    for gate, nearness in near.items():
        step = oracle.exact_step(expectation.before, expectation.batch, _turned(decided, gate, nearness), sites)
        if step is None:
            return None
        effects.append(_early(compare(step, step)).expected - pairs.expected)
    return np.array(effects)


def _may_explain(oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, compare: Compare) -> bool:
    """Whether no element is farther off than rounding and all gates near to their kink together could take it."""
    effects = _effects(oracle, expectation, pairs, expectation.near, expectation.decided, compare)
    if effects is None:
        return False
    # Effects of gates that feed each other do not just add up.
    room = judge.limit * pairs.sigma + 2 * np.abs(effects).sum(axis=0)
    return bool(np.all(pairs.error <= room))


def _may_have_either_sign(oracle: Oracle, expectation: Expectation) -> bool:
    """Whether, of models of one dimension, all gates of some position in a layer are near to their kink.

    The norm makes 1 or -1 of a number, and what is near to 0 goes from the one to the other within the rounding of what
    it was added up from: so do its gradients, which no standard deviation tells.
    """
    for number, tokens in enumerate(expectation.batch):
        for layer in range(oracle.config.n_layer):
            for slots in oracle.program(tokens).sites[f"layer{layer}.mlp.post"]:
                if all((number, int(slot)) in expectation.near for slot in slots):
                    return True
    return False


def _early(pairs: Pairs) -> Pairs:
    """What comes before Adam, which makes a jump of what is none; all pairs, if nothing does."""
    early = pairs.only({key for key in pairs.keys if key.quantity not in STATE})
    return early if early.keys else pairs


def plausible(distances: Sequence[float], near: int, false_alarm: float) -> bool:
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


@np.errstate(over="ignore", invalid="ignore")  # what is so far off that its square is infinite, no gate explains
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
