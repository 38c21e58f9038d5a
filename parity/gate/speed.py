"""Steps of head and base in turns: how fast is one beside the other?"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

from parity.case import Case
from parity.errors import SubjectError, UsageError
from parity.progress import each
from parity.subjects.command import Command, CommandSubject
from parity.subjects.subject import own_state, train_step
from parity.subjects.turns import in_turns


@dataclass
class Speed:
    """The time of a step at head over that at base, in interleaved pairs.

    ratio: the median of the pairs' ratios; low, high: their quartiles. interval: where the median lies with a
    probability of 95 %; None for too few pairs. seconds: medians.
    """

    ratio: float
    low: float
    high: float
    pairs: int
    head_seconds: float
    base_seconds: float
    interval: tuple[float, float] | None = None

    @property
    def tells_no_difference(self) -> bool:
        """Whether the interval holds 1, or there is none."""
        return self.interval is None or self.interval[0] <= 1 <= self.interval[1]

    def is_slower(self, than: float) -> bool:
        """Whether all of the interval lies above a ratio."""
        return self.interval is not None and self.interval[0] > than


CONFIDENCE = 0.95
FEWEST_PAIRS = math.ceil(1 - math.log2(1 - CONFIDENCE))
"""Below so many, not even from the smallest ratio to the largest is an interval of this confidence."""
_WARM_UP = 3
"""Pairs that do not count."""


def require_pairs(rounds: int) -> None:
    """UsageError where so many pairs cannot say that head is slower."""
    if rounds < FEWEST_PAIRS:
        raise UsageError(f"--fail-slower needs at least {FEWEST_PAIRS} --rounds, not {rounds}, for a 95 % interval.")


def measured(head: Command, base: Command, case: Case, options: dict[str, str | None], rounds: int) -> Speed | None:
    """Steps of both in turns on the same batch, in so many pairs; None where one of them fails."""
    try:
        sides = [_steps(side(case.config, case.hyper, **options), case) for side in (head, base)]
    except SubjectError:
        return None
    return in_pairs([partial(next, steps) for steps in sides], rounds)


def in_pairs(sides: Sequence[Callable[[], float]], rounds: int) -> Speed | None:
    """Both sides' seconds, head's and base's, in so many pairs; None where one of them fails."""
    try:
        turns = in_turns(sides)
        pairs = [next(turns) for _ in each("timed pairs of steps", range(_WARM_UP + rounds))][_WARM_UP:]
    except SubjectError:  # the verdict stands without it
        return None
    return speed_of(pairs)


def speed_of(pairs: Sequence[Sequence[float]]) -> Speed:
    """What pairs of seconds, head's and base's, say."""
    ratios = [new / old for new, old in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(pairs) > 1 else ratios * 3
    head, base = map(statistics.median, zip(*pairs))
    return Speed(middle, low, high, len(pairs), head, base, _interval(ratios))


def _interval(ratios: Sequence[float]) -> tuple[float, float] | None:
    """Where their median lies, by order statistics: whatever the distribution, outliers included."""
    from scipy.stats import quantile_test

    if len(ratios) < FEWEST_PAIRS:
        return None
    found = quantile_test(ratios, q=1.0, p=0.5).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def _steps(side: CommandSubject, case: Case) -> Iterator[float]:
    """The seconds of a step on batch after batch, always from the same state, without end."""
    state = own_state(side, case.config, case.state)
    for batch in cycle(list(case.batches())):
        side.load(state)
        train_step(side, batch, "timing")
        yield side.seconds
