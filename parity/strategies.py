"""Hypothesis strategies: see `parity.testing.strategies`."""

from parity.testing.strategies import EDGES, SMALL, cases, configs, documents, hypers, states, weights

__all__ = ["EDGES", "SMALL", "cases", "configs", "documents", "hypers", "states", "weights"]
