"""Histograms, as SVG whose text is text: small panels above each other on one axis, with the limit across them."""

from collections.abc import Sequence
from dataclasses import dataclass

from parity.page.tables import LinearAxis, LogAxis

Axis = LinearAxis | LogAxis
_LEFT, _WIDE, _TOP, _HIGH, _BETWEEN = 50, 256, 22, 92, 52


@dataclass(frozen=True)
class Column:
    """From one value of the axis to another one, as high as a number. colour: one of the five series."""

    start: float
    end: float
    height: float
    colour: int = 0


@dataclass(frozen=True)
class Panel:
    """Columns over an axis of heights; assumed: points of what they are held to, drawn as a dashed line."""

    title: str
    columns: Sequence[Column]
    heights: LogAxis
    assumed: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Histogram:
    """Panels, the first one on top; limit: where a check refuses, and what is written there."""

    name: str
    about: str
    panels: list[Panel]
    axis: Axis
    axis_label: str
    limit: tuple[float, str] | None

    width, left, right = _LEFT + _WIDE + 24, _LEFT, _LEFT + _WIDE

    @property
    def height(self) -> int:
        """Of the drawing."""
        return self.bottom(len(self.panels) - 1) + 36

    def bottom(self, number: int) -> int:
        """Where the columns of a panel stand."""
        return _TOP + _HIGH + number * (_HIGH + _BETWEEN)

    def top(self, number: int) -> int:
        """Where the highest column of a panel would end."""
        return self.bottom(number) - _HIGH

    def x(self, value: float) -> float:
        """Where a value lies."""
        return round(_LEFT + self.axis.place(value) * _WIDE / 100, 1)

    def y(self, number: int, value: float) -> float:
        """Where a column of a panel ends."""
        return round(self.bottom(number) - self.panels[number].heights.place(value) * _HIGH / 100, 1)

    def paths(self, number: int) -> list[tuple[int, str]]:
        """The columns of a panel, those of a colour as one path."""
        parts: dict[int, list[str]] = {}
        for column in self.panels[number].columns:
            if column.height > 0:
                left, right = self.x(column.start), self.x(column.end)
                top, wide = min(self.y(number, column.height), self.bottom(number) - 1.5), max(right - left - 1, 1)
                parts.setdefault(column.colour, []).append(
                    f"M{left:g} {self.bottom(number)}V{top:g}h{wide:g}V{self.bottom(number)}z"
                )
        return [(colour, "".join(found)) for colour, found in parts.items()]

    def assumed(self, number: int) -> str:
        """The dashed line of a panel, as a path; empty where there is none."""
        points = [f"{self.x(x):g} {self.y(number, y):g}" for x, y in self.panels[number].assumed]
        return "M" + "L".join(points) if points else ""

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Of the axis: places, and what is written there."""
        return [(round(_LEFT + place * _WIDE / 100, 1), text) for place, text in self.axis.ticks]

    @property
    def limit_beside(self) -> tuple[float, str]:
        """Where what is written of the limit stands, beside its line and within the drawing, and how it is anchored."""
        assert self.limit
        x = self.x(self.limit[0])
        return (x - 5, "end") if x > (self.left + self.right) / 2 else (x + 5, "start")

    def rules(self, number: int) -> list[tuple[float, str]]:
        """Of a panel's heights: places, and what is written there."""
        ticks = self.panels[number].heights.ticks
        return [(round(self.bottom(number) - place * _HIGH / 100, 1), text) for place, text in ticks]
