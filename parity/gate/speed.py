"""Steps of head and base in turns: how fast is one beside the other?"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from parity.case import Case
from parity.errors import SubjectError
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import train_step
from parity.subjects.turns import in_turns


@dataclass
class Speed:
    """The time of a step at head over that at base, in interleaved pairs; seconds are medians."""

    ratio: float
    low: float
    high: float
    pairs: int
    head_seconds: float
    base_seconds: float


_WARM_UP = 3
"""Pairs that do not count."""


def measured(head: Command, base: Command, case: Case, options: dict[str, str | None], rounds: int) -> Speed | None:
    """Steps of both in turns on the same batch, in so many pairs; None where one of them fails."""
    try:
        sides = [_steps(side(case.config, case.hyper, **options), case) for side in (head, base)]
        pairs = list(islice(in_turns([partial(next, steps) for steps in sides]), _WARM_UP, _WARM_UP + rounds))
    except SubjectError:  # the verdict stands without it
        return None
    ratios = [new / old for new, old in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Speed(middle, low, high, rounds, *map(statistics.median, zip(*pairs)))


def _steps(side: CommandSubject, case: Case) -> Iterator[float]:
    """The seconds of a step on batch after batch, always from the same state, without end."""
    for batch in cycle(list(case.batches())):
        side.load(case.state)
        train_step(side, batch, "timing")
        yield side.seconds
