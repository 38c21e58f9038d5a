"""In turns: what is compared in speed is timed within the same seconds, so that what slows the machine slows all."""

from collections.abc import Callable, Iterator, Sequence


def in_turns(sides: Sequence[Callable[[], float]]) -> Iterator[list[float]]:
    """Rounds without end, each with what every side gives in its turn: its own seconds.

    From round to round the order is reversed. Otherwise one side would always follow the same other one, and find the
    caches and the clock rate as that one leaves them.
    """
    order = list(range(len(sides)))
    while True:
        seconds = {which: sides[which]() for which in order}
        yield [seconds[which] for which in range(len(sides))]
        order.reverse()
