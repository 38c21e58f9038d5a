"""Over noisy replicas: standard deviations, and the ReLUs whose input may have either sign."""

import math
from functools import partial
from typing import Any

import numpy as np

from parity.machine_code import compiled


@partial(compiled, fastmath={"reassoc"})  # a statistic may add up in any order
def _spread(samples: Any) -> Any:
    """How many samples differ from the first, and the sum of their squared distances from the mean."""
    first, total, different = samples[0], 0.0, 0
    for k in range(len(samples)):
        total += samples[k] - first
        different += samples[k] != first
    mean, squares = total / len(samples), 0.0
    for k in range(len(samples)):
        squares += (samples[k] - first - mean) ** 2
    return different, squares


@compiled
def deviation(samples: Any) -> Any:
    """The standard deviation of each row of (elements, R): 0 where all are equal, infinite where one is not finite.

    Differences are taken from the first sample, so that nothing cancels, and scaled by the largest where their squares
    would overflow or underflow.
    """
    result = np.zeros(len(samples))
    replicas = samples.shape[1]
    scaled = np.empty(replicas)
    for e in range(len(samples)):
        row = samples[e]
        different, squares = _spread(row)
        if 1e-200 < squares < 1e200:
            result[e] = math.sqrt(squares / (replicas - 1))
        elif different or not math.isfinite(row[0]):
            largest = 0.0
            for k in range(replicas):
                largest = max(largest, abs(row[k] - row[0])) if math.isfinite(row[k]) else math.inf
            result[e] = largest
            if largest < math.inf:
                for k in range(replicas):
                    scaled[k] = (row[k] - row[0]) / largest
                result[e] = math.sqrt(_spread(scaled)[1] / (replicas - 1)) * largest
    return result


@compiled
def near_kinks(inputs: Any, grads: Any, noisy_inputs: Any, noisy_grads: Any, limit: float) -> Any:
    """The ReLUs whose input lies within limit standard deviations of zero, of exact and noisy ones, (ReLUs, R).

    Their numbers, the distances of their inputs in standard deviations, and the standard deviations of their gradients
    relative to these.
    """
    numbers = np.empty(len(inputs), dtype=np.int64)
    distances, noises = np.empty(len(inputs)), np.empty(len(inputs))
    found = 0
    for i in range(len(inputs)):
        x, sigma = abs(inputs[i]), deviation(noisy_inputs[i : i + 1])[0]
        if x <= limit * sigma and sigma > 0:
            gradient = abs(grads[i])
            numbers[found], distances[found] = i, x / sigma
            noises[found] = deviation(noisy_grads[i : i + 1])[0] / gradient if gradient > 0 else math.inf
            found += 1
    return numbers[:found], distances[:found], noises[:found]


@compiled
def bounded_sums(samples: Any, exact: Any, scale: Any, weights: Any, spans: Any, bound: float) -> Any:
    """Of every replica, sums of what its elements are off, over directions: (directions, R).

    samples: (elements, R), and what is exact, (elements,), from which they are off by scale, (elements,), times so
    much, but at most by bound. weights: (directions, elements); spans: the first element of each direction and the one
    after its last, (directions, 2).
    """
    elements, replicas = samples.shape
    sums = np.zeros((len(weights), replicas))
    row = np.empty(replicas)
    for e in range(elements):
        if scale[e] == 0:
            continue
        for k in range(replicas):
            off = (samples[e, k] - exact[e]) * scale[e]
            row[k] = min(max(off, -bound), bound) if off == off else 0.0
        for d in range(len(weights)):
            if spans[d, 0] <= e < spans[d, 1] and weights[d, e] != 0:
                weight = weights[d, e]
                for k in range(replicas):
                    sums[d, k] += weight * row[k]
    return sums
