"""What was found of a training over ranks, rank by rank and tensor by tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.rendering import number, z_text
from parity.verdict import Verdict

_MOST = 400
"""Tensors of a mode that are shown, those that rounding does not explain before others."""


@dataclass(frozen=True)
class Cell:
    """A tensor as a rank has it. other_bits: whether they are not those of the first rank that has it."""

    verdict: str
    z: str
    detail: str
    other_bits: bool


@dataclass(frozen=True)
class Row:
    """A tensor, and what each rank has of it; None where a rank has none of it."""

    tensor: str
    cells: list[Cell | None]
    explained: bool
    """Whether rounding explains it on every rank."""


@dataclass(frozen=True)
class Rank:
    """A rank, its verdict, and what its wrong tensors come of."""

    rank: int
    verdict: str
    largest_z: str
    explanation: str
    wrong: int
    tensors: int


@dataclass(frozen=True)
class RanksView:
    """tables: by mode, which is the format that the ranks ran in, the tensors, and how many more there are."""

    ranks: list[Rank]
    tables: list[tuple[str, list[Row], int]]
    explanation: str
    disagree: bool
    """Whether ranks have other bits of a tensor."""


def ranks_view(data: dict[str, Any]) -> RanksView | None:
    """Of a check over ranks; None of any other."""
    by_rank = data.get("by_rank")
    if not by_rank:
        return None
    modes = dict.fromkeys(tensor["mode"] for rank in by_rank for tensor in rank["tensors"])
    tables = [(mode, *_most(_rows(by_rank, mode))) for mode in modes]
    cells = [cell for _, rows, _ in tables for row in rows for cell in row.cells if cell]
    return RanksView([_rank(found) for found in by_rank], tables, data["explanation"], any(c.other_bits for c in cells))


def _most(rows: Sequence[Row]) -> tuple[list[Row], int]:
    wrong = sum(not row.explained for row in rows)
    right = max(0, _MOST - wrong)
    shown, left = [], _MOST
    for row in rows:
        take = left > 0 and (not row.explained or right > 0)
        left, right = left - take, right - (take and row.explained)
        shown += [row] if take else []
    return shown, len(rows) - len(shown)


def _rank(found: dict[str, Any]) -> Rank:
    wrong = sum(tensor["outside"] > 0 for tensor in found["tensors"])
    largest = z_text(found["largest_z"])
    return Rank(found["rank"], found["verdict"], largest, found["explanation"], wrong, len(found["tensors"]))


def _rows(by_rank: Sequence[dict[str, Any]], mode: str) -> list[Row]:
    of_ranks = [{tensor["tensor"]: tensor for tensor in rank["tensors"] if tensor["mode"] == mode} for rank in by_rank]
    rows = []
    for name in dict.fromkeys(name for tensors in of_ranks for name in tensors):
        found = [tensors.get(name) for tensors in of_ranks]
        first = next(rank for rank, tensor in enumerate(found) if tensor)
        cells = [_cell(tensor, first) if tensor else None for tensor in found]
        explained = all(cell is None or Verdict(cell.verdict).passes for cell in cells)
        rows.append(Row(name, cells, explained))
    return rows


def _cell(tensor: dict[str, Any], first: int) -> Cell:
    detail = f"step {tensor['step']}, {tensor['outside']:,} of {tensor['elements']:,} elements outside"
    if tensor["relative_error"] is not None:
        detail += f", relative error {number(tensor['relative_error']):.2g}"
    if tensor["scale"] is not None:
        detail += f", {number(tensor['scale']):.3g} times what is expected"
    return Cell(tensor["verdict"], z_text(tensor["z"]), detail, tensor["bits_of"] != first)
