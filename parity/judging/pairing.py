"""Putting a subject's step beside the expected one; what cannot be compared is the subject's failure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from parity.answers import numbers, tensors_of, together
from parity.case import names_difference, unknown_names
from parity.errors import SubjectError
from parity.judging.pairs import Entry, Pairs
from parity.number_formats import Floats
from parity.quantities import FIELDS, SITES, TensorKey
from parity.tensors import TensorViews, places
from reference.config import Config, Step


def paired(number: int, actual: Step, expected: Step, sigma: Step, lengths: Sequence[int]) -> Pairs:
    """The tensors of both steps side by side, in the order in which a step computes them.

    number: of the step. sigma: the noise floor, a Step like expected. lengths: positions of each document. What
    actual does not expose is left out: fields, and single matrices and sites of one. Raises SubjectError where names
    are unknown, a field holds nothing or other documents, shapes differ, or something is not numbers.
    """
    entries: list[Entry] = []
    sides: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for field, quantity in FIELDS.items():
        if getattr(actual, field, None) is None or getattr(expected, field) is None:
            continue
        if quantity in SITES:
            _require_known(field, getattr(actual, field), getattr(expected, field))
        expected_tensors = tensors_of(field, getattr(expected, field), lengths)
        sigmas = tensors_of(field, getattr(sigma, field), lengths)
        actual_tensors = tensors_of(field, getattr(actual, field), lengths)
        if actual_tensors.keys() != expected_tensors.keys():
            expected_tensors = _exposed(field, actual_tensors, expected_tensors)
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


def _require_known(field: str, actual: Any, expected: Any) -> None:
    """SubjectError for sites that the reference has not, before anybody counts what they hold."""
    unknown = unknown_names(actual, expected) if isinstance(actual, dict) else []
    if unknown:
        raise SubjectError(f"The subject's {field} {unknown[0]}. help(parity.Step) lists them.")


def _exposed(field: str, actual: Mapping[Any, Any], expected: Mapping[Any, Any]) -> dict[Any, Any]:
    """The expected tensors that a subject exposes some of; a name that is not known is never taken for one left out."""
    if field == "logits":
        raise SubjectError(f"The subject's logits {names_difference(actual, expected)}.")
    sides = [{key.name if isinstance(key, TensorKey) else key: None for key in side} for side in (actual, expected)]
    unknown = unknown_names(*sides)
    if unknown:
        raise SubjectError(f"The subject's {field} {unknown[0]}.")
    if not actual and FIELDS[field] not in SITES:
        raise SubjectError(f"The subject's {field} hold no tensor; a field of which nothing is exposed is left out.")
    return {name: tensor for name, tensor in expected.items() if name in actual}


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
            hint = _likely_cause(field, actual, shape)
            what = f"{field}, {name}, have" if str(name) != field else f"{field} has"
            wanted = f"expected {shape}" if shape else "expected a single number"
            raise SubjectError(f"The subject's {what} the shape {actual}, {wanted}.{hint}")
    return arrays


def _likely_cause(field: str, actual: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Why a tensor may have another shape, as a sentence to go on with; empty where nothing is likely."""
    if len(actual) != 2 or len(expected) != 2:
        return ""
    if field != "logits" and actual == expected[::-1]:
        return " It is transposed: a matrix w is applied to a vector x as w·x."
    if field == "logits" and actual[1] == expected[1]:
        return " A document has n = min(block_size, len(tokens) - 1) positions."
    return (
        " Does the subject take its sizes from the config that it is made with (a command, from every greeting)? One "
        'that has but one size says so with sizes = "given".'
    )


def _key(quantity: str, name: Any) -> TensorKey:
    return name if isinstance(name, TensorKey) else TensorKey(quantity, name)


@lru_cache(maxsize=1024)
def _matrices(quantity: str, config: Config) -> tuple[Entry, ...]:
    return tuple((TensorKey(quantity, name), shape) for name, _, _, shape in places(config))
