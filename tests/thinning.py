"""What the profile `thorough` runs in full is thinned otherwise, where one case of a kind says what all of them say."""

import os
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")

THOROUGH = os.environ.get("PARITY_PROFILE") == "thorough"


def one_in(number: int, items: Iterable[Item], start: int = 0) -> list[Item]:
    """Every so many of them, from one on; all in the thorough profile."""
    return list(items) if THOROUGH else list(items)[start::number]
