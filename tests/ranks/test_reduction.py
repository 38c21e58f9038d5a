"""The noise that a reduction in a short format adds: as far as such reductions really scatter, and no farther."""

import math

import pytest
import torch

from parity.number_formats import FORMATS
from parity.ranks.reduction import reduction_floor

BFLOAT16 = FORMATS["bfloat16"]


def drawn(seed, size=2000):
    return {"w": torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)}


def reduced(parts):
    """As gloo does it: what is sent is rounded, and so is every sum."""
    total = torch.zeros_like(parts[0]["w"])
    for part in parts:
        total = (total + part["w"].bfloat16().double()).bfloat16().double()
    return total


@pytest.mark.parametrize("ranks", [2, 4])
def test_floor_is_as_wide_as_the_reduction_scatters(ranks):
    own = [drawn(seed) for seed in range(ranks)]
    shares = [0.2, 0.1, 0.4, 0.3][:ranks]
    parts = [{"w": share * x["w"]} for share, x in zip(shares, own)]
    whole = {"w": sum(part["w"] for part in parts)}
    floor = reduction_floor(whole, whole, own, BFLOAT16)
    z = (reduced(parts) - whole["w"]) / floor["w"]
    assert 0.3 < z.square().mean().sqrt() < 1
    assert z.abs().max() < 5


def test_floor_is_clipped_like_the_gradient_and_knows_of_the_norm():
    whole = drawn(1)
    plain = reduction_floor(whole, whole, [], BFLOAT16)["w"]
    clipped = reduction_floor({"w": whole["w"] / 8}, whole, [], BFLOAT16)["w"]
    assert torch.allclose(clipped, plain / 8, rtol=1e-2)
    assert bool((clipped >= plain / 8).all())


def test_nothing_is_added_where_no_rank_has_a_gradient():
    whole = {"w": torch.tensor([0.0, 1.0], dtype=torch.float64)}
    floor = reduction_floor(whole, whole, [whole, whole], BFLOAT16)["w"]
    assert floor[0] == 0
    assert floor[1] == pytest.approx(BFLOAT16.u * math.sqrt(1.5 / 3), rel=1e-6)
