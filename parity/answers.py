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
    if isinstance(value, dict):
        _require_lists(value, f"The subject's {field}")
    if field == "logits":
        _require_matrices(value, len(lengths))
        return {TensorKey(quantity, "logits", number): matrix for number, matrix in enumerate(value)}
    if not isinstance(value, dict):
        raise SubjectError(f"The subject's {field} must be a dict from name to values, not {type(value).__name__}.")
    if quantity not in SITES:
        return value
    for site, entries in value.items():
        _require_lists(entries, f"The subject's {field}, {site},")
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
        _require_lists(value, what)
        raise SubjectError(f"{what} are not numbers but {array.dtype}.")
    return array.astype(np.float64)


def _require_lists(tree: Any, what: str) -> None:
    """SubjectError where there are objects in place of lists, however deep they lie."""
    while isinstance(tree, (list, tuple)) and tree:
        tree = tree[0]
    if isinstance(tree, Mapping) and tree and all(str(name).isdecimal() for name in tree):
        raise SubjectError(
            f'{what} are objects with the names "0", "1" and so on in place of lists, as JavaScript\'s JSON.stringify '
            "makes them of typed arrays: Array.from(...) turns a typed array into a list."
        )


def _require_matrices(logits: Any, documents: int) -> None:
    """SubjectError where there is no matrix for each document, but rows or numbers."""
    dimensions = getattr(logits, "ndim", None)
    if dimensions is None and isinstance(logits, (list, tuple)) and logits:
        first = logits[0]
        flat = (begins_with_a_number(first) and len(first) > 0) or isinstance(first, (int, float))
        dimensions = 2 if flat or (getattr(first, "ndim", 2) == 1 and hasattr(first, "ndim")) else None
    if dimensions is not None and dimensions < 3:
        raise SubjectError(
            f"The subject's logits are rows, and are to be a list with a matrix (n, vocab_size) for each document, of "
            f"which there {'is' if documents == 1 else 'are'} {documents} here: a level of brackets is missing."
        )


def begins_with_a_number(tree: Any) -> bool:
    """Whether it is an empty list or, as far as its beginning tells, one of numbers, which needs no closer look."""
    return isinstance(tree, (list, tuple)) and (not tree or isinstance(tree[0], (int, float)))


def _without_torch(value: Any) -> Any:
    """A torch tensor as an array; bfloat16 is not known to NumPy, float64 holds it exactly."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor if tensor.is_complex() else tensor.double()).numpy()
