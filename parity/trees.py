"""Trees of numbers: dicts, lists and Steps, nested, as states, steps and messages are."""

from collections.abc import Callable
from typing import Any

import numpy as np

from reference.config import Step


def mapped(function: Callable[..., Any], tree: Any, *others: Any, leaf: Callable[[Any], bool] | None = None) -> Any:
    """The same tree with function(leaf, the leaves at its place in the others, ...) where its leaves stand.

    Whatever is no dict, list, tuple or Step is a leaf, as is every branch of the first tree of which `leaf` says so.
    Tuples become lists. A field of a Step that is None is not exposed, and stays None, whatever the others have there.
    ValueError where lists differ in length, KeyError where another tree lacks a name.
    """
    if leaf is not None and leaf(tree):
        return function(tree, *others)
    if isinstance(tree, Step):
        fields = {name: value for name, value in vars(tree).items() if value is not None}
        return Step(**mapped(function, fields, *map(vars, others), leaf=leaf))
    if isinstance(tree, dict):
        return {
            name: mapped(function, branch, *(other[name] for other in others), leaf=leaf)
            for name, branch in tree.items()
        }
    if not isinstance(tree, (list, tuple)):
        return function(tree, *others)
    if others or leaf is not None:
        return [mapped(function, *branches, leaf=leaf) for branches in zip(tree, *others, strict=True)]
    # Most lists are rows of numbers, and a call for each of these would take longer than what is done to them.
    return [mapped(function, branch) if isinstance(branch, _BRANCHES) else function(branch) for branch in tree]


_BRANCHES = (dict, list, tuple, Step)


def listed(tree: Any) -> Any:
    """The same tree with arrays as nested lists."""
    return mapped(lambda leaf: leaf.tolist() if isinstance(leaf, np.ndarray) else leaf, tree)


def is_row(tree: Any) -> bool:
    """Whether it is a list that holds no lists: the innermost of a matrix."""
    return isinstance(tree, (list, tuple)) and not (tree and isinstance(tree[0], (list, tuple)))
