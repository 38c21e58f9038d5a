"""The orders of evaluation of `tests.implementations` as subjects that campaigns can name, one function for each.

    parity campaign calibrate benchmarks.campaign_subjects:blocks --dtype float32

Those whose name ends with _mixed keep weights and moments in float32, whatever products are computed in.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from tests.implementations import IMPLEMENTATIONS

_NAMES = {
    "positions": "all positions at once",
    "fused": "fused attention, torch's Adam",
    "normalised_last": "attention normalised last",
    "saved_outputs": "attention from saved outputs",
    "blocks": "sums in two blocks",
    "permuted": "permuted weights",
}


def _factories() -> dict[str, Callable[..., Any]]:
    found = {name: IMPLEMENTATIONS[words] for name, words in _NAMES.items()}
    mixed = {name: make for name, make in found.items() if "storage" in signature(make).parameters}
    return found | {f"{name}_mixed": partial(make, storage="float32") for name, make in mixed.items()}


globals().update(_factories())
