"""Rounds in which everybody has a turn, and nobody always the same place in the order."""

from collections.abc import Callable
from itertools import count, islice

import pytest

from parity.subjects.turns import in_turns


def sides(called: list[str]) -> list[Callable[[], float]]:
    """Three whose seconds tell who they are and in which of their turns: 1.00, 1.01, ...; 2.00, ..."""

    def side(number: int) -> Callable[[], float]:
        turn = count()

        def seconds() -> float:
            called.append("abc"[number])
            return number + 1 + next(turn) / 100

        return seconds

    return [side(number) for number in range(3)]


def test_seconds_are_those_of_the_side_in_every_order():
    called: list[str] = []
    rounds = list(islice(in_turns(sides(called)), 3))
    assert rounds == [[1.0, 2.0, 3.0], [1.01, 2.01, 3.01], [1.02, 2.02, 3.02]]
    assert "".join(called) == "abccbaabc"


def test_nothing_is_called_before_its_round():
    called: list[str] = []
    turns = in_turns(sides(called))
    assert called == []
    next(turns)
    assert len(called) == 3


def test_what_a_side_raises_ends_the_rounds():
    def broken() -> float:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        next(in_turns([broken]))
