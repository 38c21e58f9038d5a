"""The noise floor that a reduction over ranks in a short format adds, which the single training knows nothing of."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from parity.number_formats import Format
from parity.ranks.shares import Gradient, weighed


def reduction_floor(expected: Gradient, unclipped: Gradient, own: Sequence[Gradient], form: Format) -> Gradient:
    """How far rounding in the reduction moves each element of the gradient that the optimizer reads: its deviation.

    expected: that gradient; unclipped: the same before clipping. own: of each rank's documents alone, whose parts in
    the whole are found by least squares; where they are not known, equal parts of the whole take their place.

    Each rank's part is rounded to the format once, and so are their sum and the sums of some of them that lead to it,
    which are no larger than the sum of all sizes. An error is uniform within a unit roundoff. Clipped by a norm of
    rounded elements, all elements have the norm's error besides.
    """
    parts = _parts(unclipped, own)
    clipping = _norm(expected) / (_norm(unclipped) or 1.0)
    found = {}
    for name, gradient in unclipped.items():
        rounded = torch.stack([part[name].double() for part in parts])
        sizes = rounded.abs().sum(0)
        squares = rounded.square().sum(0) + rounded.sum(0).square() + (len(parts) - 2) * sizes.square()
        smallest = torch.where(sizes > 0, len(parts) * form.tiny, 0.0)
        found[name] = (squares * (form.u**2 / 3) + smallest.square()).sqrt().view(gradient.shape)
    square = sum(float((unclipped[name].double() * error).square().sum()) for name, error in found.items())
    of_norm = math.sqrt(square) / (_norm(unclipped) or 1.0) ** 2 if clipping < 1 else 0.0
    return {
        name: clipping * (error.square() + (of_norm * unclipped[name].double()).square()).sqrt()
        for name, error in found.items()
    }


def _parts(whole: Gradient, own: Sequence[Gradient]) -> list[dict[str, Tensor]]:
    """What each rank adds to the whole gradient."""
    count = max(len(own), 2)
    return (weighed(whole, own) if own else []) or [{name: x.double() / count for name, x in whole.items()}] * count


def _norm(gradient: Gradient) -> float:
    return math.sqrt(sum(float(x.double().square().sum()) for x in gradient.values()))
