"""Bin packing: pieces of given lengths in as few bins of one size as a simple rule finds."""

from collections.abc import Sequence


def best_fit_decreasing(lengths: Sequence[int], size: int) -> list[list[int]]:
    """The pieces of every bin, by number.

    Longest first, each goes where it leaves the least room. Bins are kept by the room that they have left, so a piece
    takes at most `size` looks, however many bins there are. Raises ValueError for a piece longer than a bin.
    """
    if max(lengths, default=0) > size:
        raise ValueError(f"A piece of length {max(lengths)} fits no bin of size {size}.")
    bins: list[list[int]] = []
    with_room: list[list[list[int]]] = [[] for _ in range(size + 1)]
    for piece in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[piece]
        room = next((room for room in range(length, size) if with_room[room]), size)
        if room == size:
            bins.append([])
            with_room[size].append(bins[-1])
        chosen = with_room[room].pop()
        chosen.append(piece)
        with_room[room - length].append(chosen)
    return bins
