"""Tables and charts of what was compared: by quantity over all modes, and by tensor what would have been caught."""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from parity.page.rendering import beside, number, order, z_text
from parity.page.tables import Bar, LogAxis, Table

Mode = dict[str, Any]
_COMPARED = ("loss", "logits")
"""Quantities of which every element is compared, whatever its tensor."""


def rows_of(mode: Mode) -> list[dict[str, Any]]:
    """The quantities of a mode of which something was compared."""
    return [row for row in mode["quantities"] if row["compared"]]


def overview(modes: Sequence[Mode], limit: Any) -> Table:
    """A row for each quantity over all modes: how near to the limit, and what would have been caught."""
    shown = [mode for mode in modes if rows_of(mode)]
    names = [f"z {mode['mode'].split()[0].removesuffix('-running')}" for mode in shown]
    table = Table(["quantity", "compared", *names, "would catch", "at worst"], ["quantity"])
    for quantity in dict.fromkeys(row["quantity"] for mode in shown for row in rows_of(mode)):
        found = [next((row for row in rows_of(mode) if row["quantity"] == quantity), None) for mode in shown]
        best = next(row for row in found if row)
        z = [beside(row["largest_z"]["z"], limit) if row and row["largest_z"] else "-" for row in found]
        table.rows.append([quantity, f"{best['compared']:,}", *z, *_power(best)])
    return table


def failures(mode: Mode, limit: Any) -> Table:
    """A row for each quantity of a mode: how much of it is outside, and the first element that is."""
    table = Table(
        ["quantity", "outside", "of", "first: step, element", "error", "relative", "z"],
        ["quantity", "first: step, element"],
    )
    for row in mode["quantities"]:
        cells, found = [row["quantity"], f"{row['outside']:,}", f"{row['compared']:,}"], row["first_outside"]
        if found:
            error, relative = number(found["error"]), number(found["relative_error"])
            shown = "-" if math.isinf(relative) and error else f"{relative:.2g}"
            cells += [f"{found['step']}, {found['where']}", f"{error:.1e}", shown, beside(found["z"], limit)]
        table.rows.append(cells + ["-"] * (len(table.columns) - len(cells)))
    return table


def truth_table(mode: Mode) -> Table:
    """The largest z of each quantity between subject, reference and truth."""
    sides = {
        "subject against truth": "subject",
        "reference against truth": "reference",
        "subject against reference": "apart",
    }
    table = Table(["quantity", *sides], ["quantity"])
    for quantity in mode["truth"]["subject"]:
        table.rows.append([quantity, *(z_text(mode["truth"][side].get(quantity)) for side in sides.values())])
    return table


def power_table(modes: Sequence[Mode]) -> Table:
    """By tensor and quantity, the smallest relative errors that would have been caught: median element, worst one."""
    columns = {row["quantity"]: row["power"] for row in _first(modes) if row["quantity"] not in _COMPARED}
    table = Table(["tensor", *columns], ["tensor"])
    for tensor in dict.fromkeys(name for column in columns.values() for name in column):
        cells = (column.get(tensor) for column in columns.values())
        shown = (f"{order(cell['median'])}, {order(cell['worst'])}" if cell else "-" for cell in cells)
        table.rows.append([tensor, *shown])
    return table


def power_chart(modes: Sequence[Mode]) -> dict[str, Any] | None:
    """The same of one quantity, the gradients if they are there: from the median element to the worst one."""
    rows = {row["quantity"]: row["power"] for row in _first(modes) if row["quantity"] not in _COMPARED}
    quantity = "grad" if "grad" in rows else next(iter(rows), None)
    if quantity is None:
        return None
    known = {name: (number(cell["median"]), number(cell["worst"])) for name, cell in rows[quantity].items()}
    known = {name: pair for name, pair in known.items() if pair[0] > 0}
    if not known:
        return None
    axis = LogAxis.around([value for pair in known.values() for value in pair])
    bars = [
        Bar(name, f"{order(middle)} to {order(worst)}", axis.place(middle), axis.place(worst), dot=axis.place(middle))
        for name, (middle, worst) in known.items()
    ]
    return {"quantity": quantity, "axis": axis, "bars": bars}


def _first(modes: Sequence[Mode]) -> Iterator[dict[str, Any]]:
    """The quantities of the first mode in which something was compared."""
    yield from next((rows_of(mode) for mode in modes if rows_of(mode)), [])


def _power(row: dict[str, Any]) -> list[str]:
    """Over the tensors of a quantity: the median of their medians, and the worst."""
    medians = [middle for cell in row["power"].values() if not math.isnan(middle := number(cell["median"]))]
    if not medians:
        return ["nothing", "nothing"]
    return [order(median(medians)), order(max(number(cell["worst"]) for cell in row["power"].values()))]
