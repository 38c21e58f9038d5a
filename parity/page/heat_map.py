"""Heat maps: how z spreads over a tensor, as few enough paths of SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.tables import Table

_SHADES = 5
"""Above the limit."""


@dataclass(frozen=True)
class HeatMap:
    """A map of cells. shades: for each shade the path of its cells, a cell being one by one."""

    title: str
    rows: int
    columns: int
    shades: list[tuple[int, str]]
    legend: list[tuple[int, str]]
    table: Table
    about: str

    @property
    def cell(self) -> float:
        """How large a cell is drawn, in pixels, where there is room."""
        return max(4, min(22, 640 // self.columns, 440 // self.rows))


def heat_map(stored: dict[str, Any], limit: float) -> HeatMap:
    """The map of a tensor as a result has it."""
    texts = [row.split() for row in stored["rows"]]
    values = [[float(z) for z in row] for row in texts]
    bounds = _bounds([z for row in values for z in row if math.isfinite(z)], limit)
    cells = [[_shade(z, bounds) for z in row] for row in values]
    used = sorted({found for row in cells for found in row})
    rows, columns = stored["shape"]
    tall, wide = stored["block"]
    of = f" Each cell is the largest z of {tall} × {wide} elements." if tall * wide > 1 else ""
    table = Table(["row", *(str(column * wide) for column in range(len(texts[0])))])
    table.rows = [[str(number * tall), *row] for number, row in enumerate(texts)]
    names = [f"within rounding, z to {limit:.1f}", *(f"to {bound:.2g}" for bound in bounds[1:]), "beyond"]
    return HeatMap(
        title=f"{stored['quantity']} {stored['tensor']}",
        rows=len(cells),
        columns=len(cells[0]),
        shades=[(found, _path(cells, found)) for found in used],
        legend=[(found, text) for found, text in enumerate(["equal", *names]) if found in used],
        table=table,
        about=f"{rows} rows × {columns} columns.{of}",
    )


def _bounds(values: Sequence[float], limit: float) -> list[float]:
    """Where each shade ends but the last: the limit, then equal factors from the least z above it to the largest."""
    above = [z for z in values if z > limit] or [limit]
    least, largest = min(above), max(above)
    factor = (largest / least) ** (1 / _SHADES)
    return [limit, *(float(f"{least * factor**step:.1e}") for step in range(1, _SHADES))]


def _shade(z: float, bounds: Sequence[float]) -> int:
    """0 for equality, 1 for what rounding explains, and higher ones above the limit."""
    return 0 if z == 0 else 1 + sum(z > bound for bound in bounds)


def _path(cells: Sequence[Sequence[int]], shade: int) -> str:
    """The cells of a shade, those beside each other as one."""
    parts = []
    for y, row in enumerate(cells):
        x = 0
        while x < len(row):
            length = 0
            while x + length < len(row) and row[x + length] == shade:
                length += 1
            if length:
                parts.append(f"M{x} {y}h{length}v1h-{length}z")
            x += length or 1
    return "".join(parts)
