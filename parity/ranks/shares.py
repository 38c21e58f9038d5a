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
    columns = torch.stack([_flat(part, whole) for part in parts], 1)
    weights = torch.linalg.lstsq(columns, _flat(whole, whole)[:, None], driver="gelsd").solution.flatten().tolist()
    return [{name: weight * part[name].double() for name in whole} for weight, part in zip(weights, parts, strict=True)]


def _flat(gradient: Gradient, names: Gradient) -> Tensor:
    return torch.cat([gradient[name].double().cpu().flatten() for name in names])
