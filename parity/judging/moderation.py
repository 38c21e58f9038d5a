"""Noise floors from few replicas: what the elements of a tensor say of each other's.

Of d replicas a spread is known with d degrees of freedom only, and Student's t has a long way to one false alarm in a
billion. Elements of one tensor, of about the same size, have about the same floor; how nearly they do is seen in the
scatter of their spreads, beyond what d replicas scatter by themselves. So each spread is moderated by the others', with
as many more degrees of freedom as that scatter allows (Smyth 2004, Linear models and empirical Bayes methods, eq. 4 and
section 6.2). An element whose floor is much larger than its neighbours' is then judged at most
sqrt((d + added) / d) times too strictly, hence the bound on what is added.
"""

from typing import Any

import numpy as np

from parity.machine_code import compiled
from parity.number_formats import Floats
from parity.verdict import limit

FREEDOM = 64
"""Degrees of freedom up to which floors are moderated, and for which the limit is given."""

_GROUPS = 16
"""Of elements of about the same size."""
_FEWEST = 32
"""Elements for a group of them."""
_MOST = 1 << 15
"""Elements that the scatter is taken of; in larger tensors, of a part of them."""


def moderated(floor: Floats, expected: Floats, replicas: int, false_alarm: float, elements: int) -> Floats:
    """The floor of a tensor's elements, so wide that the limit of FREEDOM degrees of freedom fits it; 0 stays 0.

    floor, expected: (elements of the tensor,). elements: of the whole check.
    """
    if replicas >= FREEDOM:
        return floor
    known = np.flatnonzero((floor > 0) & np.isfinite(floor))
    widened = limit(false_alarm, elements, FREEDOM + 1)
    result: Floats = floor.copy()
    if len(known) < _FEWEST:
        result[known] *= limit(false_alarm, elements, replicas + 1) / widened
        return result
    part = known[:: -(-len(known) // _MOST)]
    edges, usual, added = _usual(floor[part] ** 2, np.abs(expected[part]), replicas)
    freedom = replicas + added
    _moderate(result, expected, edges, usual, added, replicas, limit(false_alarm, elements, freedom + 1) / widened)
    return result


@compiled
def _moderate(floor: Any, expected: Any, edges: Any, usual: Any, added: float, replicas: int, factor: float) -> None:
    """Write the moderated floors over those given. edges: of the sizes of groups; usual: squares, of each group."""
    for i in range(len(floor)):
        if 0 < floor[i] < np.inf:
            group = np.searchsorted(edges, abs(expected[i]))
            square = (added * usual[group] + replicas * floor[i] ** 2) / (replicas + added)
            floor[i] = np.sqrt(square) * factor


def _usual(squares: Floats, sizes: Floats, replicas: int) -> tuple[Floats, Floats, float]:
    """What elements of about the same size have: the sizes between groups, the square of each group's floor, and
    with how many degrees of freedom that is known."""
    from scipy.special import digamma

    logs = np.log(np.maximum(squares, 1e-300))
    edges = np.quantile(sizes, np.linspace(0, 1, max(1, min(_GROUPS, len(sizes) // _FEWEST)) + 1)[1:-1])
    group = np.searchsorted(edges, sizes)
    number = np.bincount(group, minlength=len(edges) + 1)
    means = np.bincount(group, logs, minlength=len(edges) + 1) / np.maximum(number, 1)
    added = _freedom(float(np.var(logs - means[group])), replicas)
    shift = np.log(replicas / 2) - digamma(replicas / 2)
    shift += digamma(added / 2) - np.log(added / 2) if added else 0.0
    return edges, np.exp(means + shift), added


def _freedom(scatter: float, replicas: int) -> float:
    """The degrees of freedom that a variance of logarithms beyond that of replicas speaks of; none above FREEDOM."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    most, beyond = FREEDOM - replicas, scatter - polygamma(1, replicas / 2)
    if beyond <= polygamma(1, most / 2):
        return float(most)
    fewest = 0.01
    return (
        0.0
        if beyond >= polygamma(1, fewest / 2)
        else float(brentq(lambda f: polygamma(1, f / 2) - beyond, fewest, most))
    )
