"""Reading what a subject answers: nested lists, NumPy arrays or torch tensors, by name."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.errors import SubjectError
from parity.number_formats import Floats
from parity.quantities import FIELDS, SITES, TensorKey
from parity.trees import mapped


def together(values: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> Floats | None:
    """All elements of torch tensors of these shapes in one vector, which takes one transfer from another device.

    None where they are something else, which is to be read one by one.
    """
    torch = sys.modules.get("torch")
    if torch is None or not values or not all(type(value) in (torch.Tensor, torch.nn.Parameter) for value in values):
        return None
    if [value.shape for value in values] != list(shapes) or any(value.is_complex() for value in values):
        return None
    try:
        vector: Floats = torch.cat([value.detach().reshape(-1) for value in values]).cpu().double().numpy()
    except RuntimeError:  # of several devices, say
        return None
    return vector


def numbers(value: Any, whose: str, field: str, name: str) -> Floats:
    """The array of a tensor in somebody's step; SubjectError where it is not one."""
    if type(value) is np.ndarray and value.dtype == np.float64:
        return value
    return as_array(value, f"The {whose}'s {field}, {name},")


def tensors_of(field: str, value: Any, lengths: Sequence[int]) -> Mapping[Any, Any]:
    """The tensors that a field of a Step holds, in the order in which a step computes them.

    By name where the field is a dict of matrices, otherwise by TensorKey.
    """
    quantity = FIELDS[field]
    if field == "loss":
        return {TensorKey(quantity, "loss"): value}
    if field == "logits":
        return {TensorKey(quantity, "logits", number): matrix for number, matrix in enumerate(value)}
    if not isinstance(value, dict):
        raise SubjectError(f"The subject's {field} must be a dict from name to values, not {type(value).__name__}.")
    if quantity not in SITES:
        return value
    for site, entries in value.items():
        if len(entries) != sum(lengths):
            raise SubjectError(
                f"The subject's {field}, {site}, have {len(entries)} entries, expected one for each of the "
                f"{sum(lengths)} positions."
            )
    places = [(document, position) for document, n in enumerate(lengths) for position in range(n)]
    keyed = {
        TensorKey(quantity, site, document, position): value[site][i]
        for i, (document, position) in enumerate(places)
        for site in value
    }
    return keyed if field == "sites" else dict(reversed(keyed.items()))


def as_array(value: Any, what: str) -> Floats:
    """Nested lists, a NumPy array or a torch tensor in float64; SubjectError where it is not a block of numbers."""
    try:
        array = np.asarray(mapped(_without_torch, value, leaf=begins_with_a_number))
    except Exception as error:  # tensors of other libraries raise what they like
        raise SubjectError(f"{what} cannot be read as numbers: {' '.join(str(error).split())}.") from None
    if array.dtype.kind not in "fiu":
        raise SubjectError(f"{what} are not numbers but {array.dtype}.")
    return array.astype(np.float64)


def begins_with_a_number(tree: Any) -> bool:
    """Whether it is an empty list or, as far as its beginning tells, one of numbers, which needs no closer look."""
    return isinstance(tree, (list, tuple)) and (not tree or isinstance(tree[0], (int, float)))


def _without_torch(value: Any) -> Any:
    """A torch tensor as an array; bfloat16 is not known to NumPy, float64 holds it exactly."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor if tensor.is_complex() else tensor.double()).numpy()
