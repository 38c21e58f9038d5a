"""What a wrong gradient is made of: measured along what the mistakes of ranks would give in its place.

For each direction c (the whole batch's gradient, a rank's own, the mean of the ranks' own, what a reduction that is
left out of the last batch gives) the wrong gradient a is fitted as f·c by least squares, over all tensors that are
wrong, each in units of its own norm. A direction explains it where less than a tenth of the difference is left; f then
tells the sum from the mean.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parity.ranks.shares import Gradient, weighed

LEFT = 0.1
"""How much of the difference an explanation may leave."""


@dataclass
class Known:
    """What an explanation is measured by, in the ranks' names.

    expected: the whole batch's gradient as the optimizer is to read it. own: by rank and then by batch that a step
    accumulates, what the single training makes of it alone. unclipped: expected before clipping. limit: of the norm.
    shards: by rank, where the elements of its shards lie. given: by rank, the gradients that its optimizer read.
    """

    expected: Gradient
    own: Sequence[Sequence[Gradient]] = ()
    unclipped: Gradient = field(default_factory=dict)
    limit: float | None = None
    shards: Sequence[Mapping[str, Tensor]] = ()
    given: Sequence[Gradient] = ()


@dataclass
class _Fit:
    kind: str
    rank: int | None
    factor: float
    left: float


def explain(actual: Mapping[int | None, Gradient], known: Known, ranks: int) -> dict[str, list[int]]:
    """Why the gradients are as they are: clauses, each with the ranks that it is true of; none where nothing explains.

    actual: the wrong tensors by rank, or of all ranks alike (None).
    """
    found: dict[str, list[int]] = {}
    for rank, gradient in actual.items():
        best = _best(gradient, known, rank)
        by_shard = _left_by_shards(gradient, known)
        if by_shard <= LEFT and (best is None or by_shard < best.left / 3):
            text = "the gradient of each shard is clipped by that shard's own norm, where the norm of all is due"
        else:
            text = _said(best, known, ranks) or _of_parts(gradient, known)
        if text:
            found.setdefault(text, []).extend(range(ranks) if rank is None else [rank])
    return found


def sentences(found: Mapping[str, Sequence[int]], ranks: int) -> str:
    """The clauses of `explain` as sentences; empty where there are none."""
    return " ".join(f"{_where(of, ranks)} {text}." for text, of in found.items())


def _best(actual: Gradient, known: Known, rank: int | None) -> _Fit | None:
    fits = [
        fit
        for kind, of, direction in _directions(known, rank)
        if (fit := _fit(actual, direction, known.expected, kind, of)) is not None and fit.left <= LEFT
    ]
    least = min((fit.left for fit in fits), default=0.0)
    return next((fit for fit in fits if fit.left <= max(3 * least, 1e-3)), None)


def _directions(known: Known, rank: int | None) -> Iterator[tuple[str, int | None, Gradient]]:
    """Each kind of mistake with the gradient that it gives, the simplest first."""
    yield "whole", None, known.expected
    if not known.own or not all(known.own):
        return
    whole = [mean_of(parts) for parts in known.own]
    if rank is not None:
        yield "own", rank, whole[rank]
    if all(_alike(own, whole[0]) for own in whole):
        yield "same documents", None, whole[0]
        return
    yield "mean of own", None, mean_of(whole)
    yield from (("other's", other, own) for other, own in enumerate(whole) if other != rank)
    parts = len(known.own[0])
    if rank is None or parts < 2 or any(len(own) != parts for own in known.own):
        return
    for own in (known.own, _as_they_count(known, parts)):
        if own:
            means = [mean_of([of_rank[k] for of_rank in own]) for k in range(parts)]
            yield "last not reduced", rank, mean_of([*means[:-1], own[rank][-1]])
            yield "only last reduced", rank, mean_of([*own[rank][:-1], means[-1]])


def _as_they_count(known: Known, parts: int) -> list[list[Gradient]]:
    """The batches' own gradients, each as often as it counts in the whole, as where ranks weigh unequal shares."""
    found = weighed(known.unclipped, [part for own in known.own for part in own])
    times = len(found)
    scaled = [{name: times * x for name, x in part.items()} for part in found]
    return [list(scaled[at : at + parts]) for at in range(0, times, parts)]


def _fit(actual: Gradient, direction: Gradient, expected: Gradient, kind: str, of: int | None) -> _Fit | None:
    """The factor of a direction, and how much of the difference it leaves; None where it has no such tensors."""
    if any(name not in direction for name in actual):
        return None
    units = {name: _norm({name: expected[name]}) or 1.0 for name in actual}
    a, c, e = (
        torch.cat([source[name].double().flatten() / units[name] for name in actual])
        for source in (actual, direction, expected)
    )
    square, difference = float(c @ c), float((a - e).norm())
    if not square or not difference or not math.isfinite(difference):
        return None
    factor = float(a @ c) / square
    return _Fit(kind, of, factor, float((a - factor * c).norm()) / difference)


def _said(fit: _Fit | None, known: Known, ranks: int) -> str:
    if fit is None:
        return ""
    usual = next((x for x in (1.0, float(ranks), 1 / ranks) if abs(fit.factor / x - 1) < 0.02), None)
    measured = f"(factor {fit.factor:.4g}; {fit.left:.1g} of the difference is left)"
    if fit.kind == "whole":
        return _of_scale(fit.factor, measured, known, ranks)
    what = {
        "own": "the rank's own, and the reduction is missing",
        "mean of own": "the mean of the ranks' own means, as if they had equally many documents",
        "same documents": "of documents that every rank has alike: they are not dealt out",
        "other's": f"that of rank {fit.rank} alone",
        "last not reduced": "reduced but for the last batch that is accumulated, of which it is the rank's own",
        "only last reduced": "the rank's own but for the last batch that is accumulated, which alone is reduced",
    }[fit.kind]
    if fit.kind == "mean of own" and usual == ranks:
        what = "the sum of the ranks' own means"
    return f"the gradient is {what} {measured}"


def _of_scale(factor: float, measured: str, known: Known, ranks: int) -> str:
    """Why the whole batch's gradient is so many times as large: reduced, or clipped, otherwise than it should be."""
    norm, limit = _norm(known.unclipped), known.limit or math.inf
    clipping = _clip(norm, limit)

    def gives(expected: float, within: float = 0.02) -> bool:
        return abs(factor - expected) <= within * abs(expected - 1)

    sums = "the gradient is summed over the ranks where their mean is due, or reduced twice"
    divides = "the gradient is divided by the number of ranks once too often, or not summed"
    for times, said in ((float(ranks), sums), (1 / ranks, divides)):
        clipped = _clip(times * norm, limit)
        if gives(times * clipped / clipping):
            hidden = " before it is clipped, which hides most of it" if clipped < 1 else ""
            return f"{said}{hidden} {measured}"
    if clipping < 1 and gives(1 / clipping):
        return f"the gradient is not clipped, which would make it {clipping:.4g} times as large"
    for said, other in _other_norms(known, ranks):
        if gives(_clip(other, limit) / clipping, 1e-3):  # there are many of them
            return f"the gradient is clipped by a norm {said}: {other:.4g} in place of {norm:.4g}"
    if clipping < 1 and abs(factor - 1) < 1e-3:
        return "the gradient is the whole batch's but for its scale before it was clipped, which clipping hides"
    return f"the gradient is {factor:.4g} times as large as that of the whole batch"


def _other_norms(known: Known, ranks: int) -> Iterator[tuple[str, float]]:
    """What people take for the norm of all gradients, where some lie in shards and every rank has the others."""
    norm = _norm(known.unclipped)
    yield "that is squared", norm**2
    yield "in which every rank counts all gradients", norm * math.sqrt(ranks)
    sharded = _norm({name: known.unclipped[name] for name in known.shards[0]}) if known.shards else 0.0
    whole = math.sqrt(max(norm**2 - sharded**2, 0.0))
    if sharded < 1e-6 * norm or whole < 1e-6 * norm:
        return
    yield "in which every rank counts the gradients that all have alike", math.hypot(sharded, whole * math.sqrt(ranks))
    yield "of the gradients that all have alike, without the shards", whole
    for rank, places in enumerate(known.shards):
        own = _norm({name: known.unclipped[name].flatten()[at] for name, at in places.items()})
        yield f"of rank {rank}'s gradients alone", math.hypot(own, whole)


def _of_parts(actual: Gradient, known: Known) -> str:
    """Where the ranks' gradients are right taken together, and only their sum or mean is missing."""
    if len(known.given) < 2 or any(name not in given for given in known.given for name in actual):
        return ""
    mean = mean_of([{name: given[name] for name in actual} for given in known.given])
    difference = _norm({name: actual[name].double() - known.expected[name].double() for name in actual})
    for what, factor in (("sum", float(len(known.given))), ("mean", 1.0)):
        left = _norm({name: factor * mean[name] - known.expected[name].double() for name in actual})
        if left <= LEFT * difference:
            return f"the gradient is a part whose {what} over the ranks is right: that reduction is missing"
    return ""


def _left_by_shards(actual: Gradient, known: Known) -> float:
    """How much of the difference is left where every shard is taken to be clipped by its own norm; 1 without shards."""
    if (
        known.limit is None
        or len(known.shards) < 2
        or any(name not in shard for shard in known.shards for name in actual)
    ):
        return 1.0
    norm = _norm(known.unclipped)
    clipping = _clip(norm, known.limit)
    sharded = _norm({name: known.unclipped[name] for name in known.shards[0]})
    whole = math.sqrt(max(norm**2 - sharded**2, 0.0))
    difference, left = 0.0, 0.0
    for shard in known.shards:
        inside = {name: known.unclipped[name].flatten()[places] for name, places in shard.items()}
        own = _clip(math.hypot(_norm(inside), whole), known.limit)
        for name in actual:
            of_shard = actual[name].double().flatten()[shard[name]]
            difference += float((of_shard - clipping * inside[name]).square().sum())
            left += float((of_shard - own * inside[name]).square().sum())
    return math.sqrt(left / difference) if difference else 1.0


def _clip(norm: float, limit: float) -> float:
    """As torch.nn.utils.clip_grad_norm_ has it."""
    return min(1.0, limit / (norm + 1e-6))


def _norm(tensors: Gradient) -> float:
    return math.sqrt(sum(float(x.double().square().sum()) for x in tensors.values()))


def mean_of(gradients: Sequence[Gradient]) -> Gradient:
    """Of the tensors that all have."""
    shared = [name for name in gradients[0] if all(name in other for other in gradients)]
    return {name: torch.stack([g[name].double() for g in gradients]).mean(0) for name in shared}


def _alike(one: Gradient, other: Gradient) -> bool:
    return _norm({name: one[name].double() - other[name].double() for name in one}) <= 1e-6 * _norm(one)


def _where(of: Sequence[int], ranks: int) -> str:
    if len(of) == ranks:
        return "On every rank"
    return f"On rank{'s' if len(of) > 1 else ''} {' and '.join(map(str, of))}"
