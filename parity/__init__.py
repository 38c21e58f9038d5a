"""Settle whether an implementation of a GPT training step computes the same function as the reference."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.case import Case
    from parity.judging.checking import check
    from parity.subjects.subject import Subject
    from parity.verdict import Verdict
    from reference.config import Config, Hyper, State, Step

__version__ = "0.1.0"
__all__ = ["Case", "Config", "Hyper", "State", "Step", "Subject", "Verdict", "check"]

_MODULES = {
    "Case": "parity.case",
    "Config": "reference.config",
    "Hyper": "reference.config",
    "State": "reference.config",
    "Step": "reference.config",
    "Subject": "parity.subjects.subject",
    "Verdict": "parity.verdict",
    "check": "parity.judging.checking",
}


def __getattr__(name: str) -> Any:
    # Lazily, so that `import parity` costs nothing where only one name of it is used.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'parity' has no attribute {name!r}")
