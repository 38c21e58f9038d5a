"""Putting a subject's step beside the expected one; what cannot be compared is the subject's failure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from parity.answers import numbers, tensors_of, together
from parity.case import names_difference
from parity.errors import SubjectError
from parity.judging.pairs import Entry, Pairs
from parity.number_formats import Floats
from parity.quantities import FIELDS, SITES, TensorKey
from parity.tensors import TensorViews, places
from reference.config import Config, Step


def paired(number: int, actual: Step, expected: Step, sigma: Step, lengths: Sequence[int]) -> Pairs:
    """The tensors of both steps side by side, in the order in which a step computes them.

    number: of the step. sigma: the noise floor, a Step like expected. lengths: positions of each document. What
    actual does not expose is left out. Raises SubjectError where names or shapes differ from the expected ones, or
    where something is not numbers.
    """
    entries: list[Entry] = []
    sides: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for field, quantity in FIELDS.items():
        if getattr(actual, field, None) is None or getattr(expected, field) is None:
            continue
        expected_tensors = tensors_of(field, getattr(expected, field), lengths)
        sigmas = tensors_of(field, getattr(sigma, field), lengths)
        actual_tensors = tensors_of(field, getattr(actual, field), lengths)
        if actual_tensors.keys() != expected_tensors.keys():
            if quantity not in SITES or actual_tensors.keys() - expected_tensors.keys():
                raise SubjectError(f"The subject's {field} {names_difference(actual_tensors, expected_tensors)}.")
            expected_tensors = {name: expected_tensors[name] for name in expected_tensors if name in actual_tensors}
        if isinstance(expected_tensors, TensorViews) and isinstance(sigmas, TensorViews):
            new = _matrices(quantity, expected_tensors.config)
            sides[1].append(expected_tensors.vector)
            sides[2].append(sigmas.vector)
        else:
            arrays = [numbers(value, "reference", field, str(name)) for name, value in expected_tensors.items()]
            new = tuple((_key(quantity, name), a.shape) for name, a in zip(expected_tensors, arrays, strict=True))
            sides[1].extend(arrays)
            sides[2].extend(np.asarray(sigmas[name]) for name in expected_tensors)
        sides[0].extend(_answered(actual_tensors, field, list(expected_tensors), new))
        entries.extend(new)
    return Pairs.of(number, entries, *sides)


def _answered(tensors: Mapping[Any, Any], field: str, names: Sequence[Any], entries: Sequence[Entry]) -> list[Floats]:
    """The subject's numbers, as they lie in the expected tensors one after another."""
    vector = together([tensors[name] for name in names], [shape for _, shape in entries])
    if vector is not None:
        return [vector]
    arrays = []
    for name, (_, shape) in zip(names, entries, strict=True):
        arrays.append(numbers(tensors[name], "subject", field, str(name)))
        if arrays[-1].shape != shape:
            actual = arrays[-1].shape
            raise SubjectError(f"The subject's {field}, {name}, have the shape {actual}, expected {shape}.")
    return arrays


def _key(quantity: str, name: Any) -> TensorKey:
    return name if isinstance(name, TensorKey) else TensorKey(quantity, name)


@lru_cache(maxsize=1024)
def _matrices(quantity: str, config: Config) -> tuple[Entry, ...]:
    return tuple((TensorKey(quantity, name), shape) for name, _, _, shape in places(config))
