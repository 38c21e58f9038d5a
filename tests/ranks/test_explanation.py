"""What wrong gradients of ranks are made of, without ranks: each sentence from a gradient that is wrong in its way."""

import math

import pytest
import torch

from parity.ranks.explanation import Known, explain, sentences
from parity.ranks.losses import put_together
from parity.ranks.shares import weighed

LIMIT = 0.5


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"shard": (4, 3), "whole": (5,)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def norm_of(gradient):
    return math.sqrt(sum(float(x.square().sum()) for x in gradient.values()))


def scaled(gradient, factor):
    return {name: factor * x for name, x in gradient.items()}


def clipped(gradient, norm):
    return scaled(gradient, min(1.0, LIMIT / (norm + 1e-6)))


def said(actual, known, ranks=2):
    return sentences(explain({None: actual}, known, ranks), ranks)


@pytest.fixture
def known():
    """Ranks that have equally many documents, and half of one tensor each."""
    own = [[drawn(1)], [drawn(2)]]
    whole = {name: (own[0][0][name] + own[1][0][name]) / 2 for name in own[0][0]}
    shards = [{"shard": torch.arange(6)}, {"shard": torch.arange(6, 12)}]
    return Known(clipped(whole, norm_of(whole)), own, whole, LIMIT, shards)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (lambda norm, shard, whole: norm**2, "a norm that is squared"),
        (
            lambda norm, shard, whole: norm * math.sqrt(2),
            "a norm in which every rank counts all gradients",
        ),  # pytorch/pytorch#88955
        (
            lambda norm, shard, whole: math.hypot(shard, whole * math.sqrt(2)),
            "a norm in which every rank counts the gradients that all have alike",
        ),
        (lambda norm, shard, whole: whole, "a norm of the gradients that all have alike, without the shards"),
    ],
)
def test_clipping_by_another_norm_is_named(norm, expected, known):
    sizes = [norm_of({name: known.unclipped[name]}) for name in ("shard", "whole")]
    wrong = clipped(known.unclipped, norm(norm_of(known.unclipped), *sizes))
    assert f"On every rank the gradient is clipped by {expected}: " in said(wrong, known)


@pytest.mark.parametrize("times", [2.0, 0.5])
def test_scale_is_told_through_clipping_by_what_the_formula_adds_to_the_norm(times, known):
    wrong = clipped(scaled(known.unclipped, times), times * norm_of(known.unclipped))
    assert norm_of(wrong) == pytest.approx(LIMIT, rel=1e-5)
    expected = "summed over the ranks" if times == 2 else "divided by the number of ranks once too often"
    assert expected in said(wrong, known)
    assert "before it is clipped, which hides most of it" in said(wrong, known)


def test_sum_that_reaches_the_limit_where_the_mean_does_not_is_told():
    """The factor is neither the number of ranks nor 1."""
    own = [[scaled(drawn(1), 0.1)], [scaled(drawn(2), 0.1)]]
    whole = {name: (own[0][0][name] + own[1][0][name]) / 2 for name in own[0][0]}
    limit = 1.5 * norm_of(whole)
    known = Known(whole, own, whole, limit)
    wrong = scaled(whole, limit / norm_of(whole))
    assert "summed over the ranks where their mean is due, or reduced twice before it is clipped" in said(wrong, known)


def test_scale_of_no_meaning_is_told_as_hidden_or_as_a_factor(known):
    wrong = clipped(scaled(known.unclipped, 7.0), 7 * norm_of(known.unclipped))
    assert "but for its scale before it was clipped, which clipping hides" in said(wrong, known)
    assert "1.3 times as large as that of the whole batch" in said(scaled(known.expected, 1.3), known)


def test_last_batch_that_is_not_reduced_is_told_where_ranks_weigh_unequal_shares():
    own = [[drawn(1), drawn(2)], [drawn(3), drawn(4)]]
    shares = [[1.2, 1.2], [0.8, 0.8]]
    counted = [[scaled(part, share) for part, share in zip(*pair)] for pair in zip(own, shares)]
    whole = {name: sum(part[name] for parts in counted for part in parts) / 4 for name in drawn(1)}
    wrong = {name: ((counted[0][0][name] + counted[1][0][name]) / 2 + counted[1][1][name]) / 2 for name in whole}
    found = explain({1: wrong}, Known(whole, own, whole), 2)
    (clause,) = found
    assert clause.startswith("the gradient is reduced but for the last batch that is accumulated, of which")
    assert found[clause] == [1]


def test_nothing_is_said_of_what_nothing_explains(known):
    assert said(drawn(9), known) == ""


def test_parts_are_weighed_by_what_they_count():
    parts = [drawn(1), drawn(2)]
    whole = {name: 0.3 * parts[0][name] + 0.7 * parts[1][name] for name in parts[0]}
    found = weighed(whole, parts)
    assert torch.allclose(found[0]["whole"], 0.3 * parts[0]["whole"])
    assert weighed(whole, [{"whole": parts[0]["whole"]}]) == []


@pytest.mark.parametrize(
    ("losses", "weights", "declared", "expected"),
    [
        ([1.0, 3.0], [1, 1], "mean", {"mean": 2.0}),
        ([1.0, 3.0], [1, 1], "sum", {"sum": 4.0}),
        ([1.0, 3.0], [3, 1], "weighted mean", {"weighted mean": 1.5}),
        ([1.0, 3.0], [1, 1], "", {"mean": 2.0, "sum": 4.0}),
        ([None, 3.0], [1, 1], "", {"the loss of every rank that gives one": 3.0, "mean": 3.0, "sum": 3.0}),
        ([None, None], [1, 1], "mean", {}),
    ],
)
def test_losses_are_put_together(losses, weights, declared, expected):
    assert put_together(losses, weights, declared) == expected
