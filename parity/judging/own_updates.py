"""Updates judged by themselves, from the subject's own gradient.

Near a gradient of zero Adam's update is little but a sign, which rounding may turn, and a handful of noisy replicas
does not show what one subject in a thousand does there. So where a moment or parameter is outside and the gradient it
came from is not, the update is held to what the reference's Adam makes of the subject's own gradient, within the
rounding of that update alone. A wrong Adam is caught by that as before.

A run that goes on freely from there starts from the subject's own weights in such elements: what follows from a sign,
or from a gradient that vanished, is for no spread of replicas to tell.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity.judging.element_errors import z_values
from parity.judging.judge import Judge
from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.oracle.oracle import Expectation, Oracle, Point, led_elsewhere
from parity.oracle.spread import deviation
from parity.quantities import STATE
from parity.tensors import elements_of, flat


def own_update(
    oracle: Oracle, expectation: Expectation, pairs: Pairs, before: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """What the reference's Adam makes of the subject's own gradient and state, and the noise floor of that alone.

    before: as in `with_own_updates`. Parameters, m and v, (3, elements) each; and of which elements that is known,
    (elements,): those whose gradient and state the subject exposes.
    """
    own, samples, known, _ = own_updates(oracle, expectation, pairs, before)
    return own, np.array([deviation(part) for part in samples]), known


def own_updates(
    oracle: Oracle, expectation: Expectation, pairs: Pairs, before: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
    """The same, with what every replica gives, (3, elements, R), for the floor; and the gradient, (elements,)."""
    config, start = oracle.config, expectation.before
    exposed, grad = elements_of(config, pairs.names("grad")), flat(config, expectation.step.grads).copy()
    grad[exposed] = pairs.actual[pairs.place("grad")]
    known = np.zeros(config.num_params(), dtype=np.bool_)
    known[exposed] = ~np.isnan(before[:, exposed]).any(axis=0)
    return *oracle.own_updates(start.number, np.where(known, before, start.exact), grad), known, grad


def with_own_updates(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, before: Floats | None
) -> tuple[Expectation, Pairs, int]:
    """Expectation and pairs, with the update of the subject's own gradient expected where only that explains them.

    before: the subject's parameters, m and v before the step, (3, elements), NaN where it does not expose them; None
    where it leaves out one of the three as a whole. And at how many elements that was so.
    """
    outside, grads = judge.outside(pairs), pairs.place("grad")
    late = [quantity for quantity in STATE if outside[pairs.place(quantity)].any()]
    if before is None or grads.start == grads.stop or not late:
        return expectation, pairs, 0
    config = oracle.config
    own, own_sigma, right = own_update(oracle, expectation, pairs, before)
    of_grads = elements_of(config, pairs.names("grad"))
    right[of_grads] &= ~outside[grads]
    expected, sigma, by = pairs.expected.copy(), pairs.sigma.copy(), np.zeros_like(own)
    elements = 0
    for quantity in late:
        place, part = pairs.place(quantity), STATE.index(quantity)
        of_part = elements_of(config, pairs.names(quantity))
        update, floor = own[part][of_part], own_sigma[part][of_part]
        explained = z_values(pairs.actual[place], update, floor) <= judge.limit
        explained &= outside[place] & right[of_part]
        by[part][of_part[explained]] = (update - expected[place])[explained]
        expected[place][explained], sigma[place][explained] = update[explained], floor[explained]
        elements += int(np.count_nonzero(explained))
    pairs = pairs.with_sides(expected=expected, sigma=sigma, wide_sigma=pairs.sigma)
    return led_elsewhere(expectation, by), pairs, elements


def gone_on_from(
    oracle: Oracle, judge: Judge, expectation: Expectation, pairs: Pairs, before: Floats | None, after: Floats
) -> Point:
    """Where a run goes on after a step, from the subject's own state where rounding decides the sign of a gradient.

    before, after: the subject's parameters, m and v before and after the step, as in `with_own_updates`. Only where the
    reference's Adam makes the latter of the subject's own gradient: all else accumulates as it did.
    """
    config, grads, end = oracle.config, pairs.place("grad"), expectation.after
    near = (np.abs(pairs.expected[grads]) <= judge.limit * pairs.sigma[grads]) & (pairs.sigma[grads] > 0)
    if before is None or not near.any():
        return end
    own, floor, known = own_update(oracle, expectation, pairs, before)
    elements = elements_of(config, pairs.names("grad"))[near]
    elements = elements[known[elements]]
    sides = (side[:, elements].ravel() for side in (after, own, floor))
    explained = (z_values(*sides) <= judge.limit).reshape(len(STATE), -1).all(axis=0)
    elements = elements[explained]
    exact, noisy = end.exact.copy(), end.noisy.copy()
    exact[:, elements], noisy[:, elements] = after[:, elements], after[:, elements, None]
    return replace(end, exact=exact, noisy=noisy)
