"""Which factory makes a training: told by its source and its signature, before anything is made."""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.subjects.imports import imported, split_name


def training_factory(name: str) -> Callable[..., Any] | None:
    """The factory of that name, if it makes a training; None if it makes a subject, or does not exist.

    A file or module whose text does not speak of trainings is not imported for it.
    """
    place, _ = split_name(name)
    source = _source(place)
    if source is None or "raining" not in source:
        return None
    make = imported(name)
    return make if is_training_factory(make) else None


def is_training_factory(make: Callable[..., Any]) -> bool:
    """Whether a factory asks for nothing: a subject's is called with a config and hyper-parameters."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return False
    if not signature.parameters.keys() - {"dtype", "device"}:
        return True
    return all(
        parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in signature.parameters.values()
    )


def names_of(make: Callable[..., Any]) -> dict[str, Any]:
    """NAMES in the factory's module, of its parameters in another training; empty where there is none."""
    found = getattr(inspect.getmodule(make), "NAMES", None)
    return dict(found) if isinstance(found, dict) else {}


def _source(place: str) -> str | None:
    try:
        spec = None if place.endswith(".py") else importlib.util.find_spec(place)
        path = Path(place) if place.endswith(".py") else Path(spec.origin) if spec and spec.origin else None
        return path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else None
    except Exception:  # of a package that cannot be imported; who asks for the factory is told so
        return None
