"""Bins hold every piece once, no more than fits, and have little room left."""

import pytest

from torch_twin.tools.bin_packing import best_fit_decreasing

SIZE = 16
LENGTHS = [1 + (7 * i * i) % 13 for i in range(200)]


def faults(bins: list[list[int]], lengths: list[int]) -> list[str]:
    found = []
    if sorted(piece for pieces in bins for piece in pieces) != list(range(len(lengths))):
        found.append("not every piece once")
    if any(sum(lengths[piece] for piece in pieces) > SIZE for pieces in bins):
        found.append("too full")
    if len(bins) > sum(lengths) / SIZE * 1.1 + 1:
        found.append("too many bins")
    return found


def test_bins_hold_every_piece_once_and_have_little_room_left():
    assert faults(best_fit_decreasing(LENGTHS, SIZE), LENGTHS) == []


@pytest.mark.parametrize(
    ("bins", "fault"),
    [
        ([[i] for i in range(200)], "too many bins"),
        (best_fit_decreasing(LENGTHS, 2 * SIZE), "too full"),
        (best_fit_decreasing(LENGTHS, SIZE)[1:], "not every piece once"),
    ],
    ids=["a bin for each", "larger bins", "a bin lost"],
)
def test_planted_fault_is_caught(bins, fault):
    assert faults(bins, LENGTHS) == [fault]


def test_piece_goes_where_it_leaves_the_least_room():
    assert best_fit_decreasing([10, 12, 4, 6], SIZE) == [[1, 2], [0, 3]]
    assert best_fit_decreasing([SIZE, SIZE - 1, 1], SIZE) == [[0], [1, 2]]
    assert best_fit_decreasing([], SIZE) == []


def test_piece_that_fits_no_bin_is_refused():
    with pytest.raises(ValueError, match="A piece of length 17 fits no bin of size 16"):
        best_fit_decreasing([3, 17], SIZE)
