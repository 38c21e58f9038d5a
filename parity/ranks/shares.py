"""What each part counts in a whole gradient."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Gradient = Mapping[str, Tensor]


def weighed(whole: Gradient, parts: Sequence[Gradient]) -> list[dict[str, Tensor]]:
    """The parts, each as often as it lies in the whole, of which they are the sum; by least squares.

    None where a part lacks one of the whole's tensors.
    """
    if any(name not in part for part in parts for name in whole):
        return []
    products = torch.tensor([[_product(one, other, whole) for other in parts] for one in parts], dtype=torch.float64)
    with_whole = torch.tensor([_product(part, whole, whole) for part in parts], dtype=torch.float64)
    # Parts that are alike count alike; a copy of them all for a factorization would take as much memory again.
    weights = (torch.linalg.pinv(products, rtol=1e-12, hermitian=True) @ with_whole).tolist()
    return [{name: weight * part[name].double() for name in whole} for weight, part in zip(weights, parts, strict=True)]


def _product(one: Gradient, other: Gradient, names: Gradient) -> float:
    return sum(float((one[name].double() * other[name].double()).sum()) for name in names)
