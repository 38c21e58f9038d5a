# ruff: noqa: D100 - the docstring is that of parity.testing.strategies
from parity.testing.strategies import (
    EDGES,
    SMALL,
    cases,
    configs,
    documents,
    hypers,
    states,
    weights,
)
from parity.testing.strategies import (
    __doc__ as __doc__,
)

__all__ = ["EDGES", "SMALL", "cases", "configs", "documents", "hypers", "states", "weights"]
