"""Whether a wrong tensor is what is expected times a number, or with so much of something else: in one number."""

from collections.abc import Iterator

import numpy as np

from parity.judging.directions import Direction
from parity.judging.exchange import Exchange, Run
from parity.judging.own_updates import own_updates
from parity.judging.pairs import Pairs
from parity.number_formats import Floats
from parity.oracle.spread import deviation
from parity.quantities import STATE
from parity.tensors import elements_of
from reference.microgpt import learning_rate

_FEW = 3
"""Elements, of which a number explains too much."""

_Way = tuple[Direction, Pairs, Floats]
"""A direction, the tensors that are off along it, and what they are off by for each unit of it."""


def amount_of(run: Run, exchange: Exchange) -> tuple[Direction, float] | None:
    """The direction along which the first wrong quantity is off, and how far, where rounding explains all the rest.

    None where there is none: of an update, where it is none that the reference's Adam makes of the subject's gradient.
    """
    first = run.judge.first_outside(exchange.pairs)
    if first is None:
        return None
    for direction, pairs, towards in _ways(run, exchange, first.quantity):
        seen = np.abs(towards) > run.judge.limit * pairs.sigma
        if np.count_nonzero(seen) < _FEW:
            continue
        with np.errstate(all="ignore"):
            amount = float(np.median(((pairs.actual - pairs.expected) / towards)[seen]))
            sides = pairs.expected + amount * towards, pairs.sigma * max(1.0, abs(1 + amount))
            if np.isfinite(amount) and run.judge.accepts(pairs.with_sides(expected=sides[0], sigma=sides[1])):
                return direction, amount
    return None


def _ways(run: Run, exchange: Exchange, quantity: str) -> Iterator[_Way]:
    """The directions along which a quantity may be off."""
    if quantity in STATE:
        yield from _of_update(run, exchange, quantity)
    elif quantity in ("logits", "grad"):
        whole = exchange.pairs.of_quantities(quantity)
        yield Direction(quantity, "", "scale"), whole, whole.expected
        first = run.judge.first_outside(whole)
        if quantity == "grad" and first is not None:
            tensor = whole.by_key()[first.key]
            yield Direction(quantity, first.key.name, "scale"), tensor, tensor.expected


def _of_update(run: Run, exchange: Exchange, quantity: str) -> Iterator[_Way]:
    before, pairs = exchange.before, exchange.pairs
    if before is None or not pairs.names("grad"):
        return
    own, samples, known, grad = own_updates(run.oracle, exchange.expectation, pairs, before)
    part, elements = STATE.index(quantity), elements_of(run.case.config, pairs.names(quantity))
    if not known[elements].all():
        return
    sigma = np.asarray(deviation(samples[part][elements]))
    found = pairs.of_quantities(quantity).with_sides(expected=own[part][elements], sigma=sigma)
    was = before[part][elements]
    if quantity == "param":
        yield Direction(quantity, "", "scale"), found, found.expected - was
        yield Direction(quantity, "", "decay"), found, -learning_rate(exchange.number, run.case.hyper) * was
    else:
        gradient = grad[elements] if quantity == "m" else grad[elements] ** 2
        yield Direction(quantity, "", "scale"), found, found.expected
        yield Direction(quantity, "", "before"), found, was
        yield Direction(quantity, "", "gradient"), found, gradient
