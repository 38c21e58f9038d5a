"""Steps of head and base in turns: how fast is one beside the other?"""

import statistics
from dataclasses import dataclass

from parity.case import Case
from parity.errors import SubjectError
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import train_step


@dataclass
class Speed:
    """The time of a step at head over that at base, in interleaved pairs; seconds are medians."""

    ratio: float
    low: float
    high: float
    pairs: int
    head_seconds: float
    base_seconds: float


def measured(head: Command, base: Command, case: Case, options: dict[str, str | None], rounds: int) -> Speed | None:
    """Steps of both in turns, which first changing from pair to pair, so that what slows the machine slows both."""
    try:
        return _timed([side(case.config, case.hyper, **options) for side in (head, base)], case, rounds)
    except SubjectError:  # the verdict stands without it
        return None


def _timed(sides: list[CommandSubject], case: Case, rounds: int) -> Speed:
    batches = list(case.batches())
    seconds: list[list[float]] = [[], []]
    warm_up = 3
    for number in range(rounds + warm_up):
        batch = batches[number % len(batches)]
        for which in (0, 1) if number % 2 else (1, 0):
            sides[which].load(case.state)
            train_step(sides[which], batch, "timing")
            if number >= warm_up:
                seconds[which].append(sides[which].seconds)
    ratios = [new / old for new, old in zip(*seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Speed(middle, low, high, rounds, *(statistics.median(side) for side in seconds))
