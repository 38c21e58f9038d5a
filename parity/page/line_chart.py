"""Curves on two log axes, as SVG whose text is text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from parity.page.tables import LogAxis, Table

_LEFT, _TOP, _WIDE, _HIGH = 62, 14, 418, 268
_MARKERS = ("●", "■", "▲", "◆", "▼")


@dataclass(frozen=True)
class Curve:
    """Points by x; those from dashed on are not measured but extrapolated. colour: one of the five series."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: int | None = None

    @property
    def marker(self) -> str:
        """So that no reader depends on colours."""
        return _MARKERS[self.colour]


@dataclass(frozen=True)
class LineChart:
    """Curves with their axes, and the same numbers as a table."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    table: Table
    x_ticks: Sequence[tuple[float, str]] = ()
    """Values and what is written there; powers of ten where there are none."""

    width, height = _LEFT + _WIDE + 24, _TOP + _HIGH + 46
    left, top, right, bottom = _LEFT, _TOP, _LEFT + _WIDE, _TOP + _HIGH

    @property
    def axes(self) -> tuple[LogAxis, LogAxis]:
        """Of x, and of y."""
        points = [point for curve in self.curves for point in curve.points]
        ends = [x for x, _ in points] + [x for x, _ in self.x_ticks]
        across = LogAxis(math.log10(min(ends)), math.log10(max(ends))) if self.x_ticks else LogAxis.around(ends)
        return across, LogAxis.around([y for _, y in points])

    def paths(self, curve: Curve) -> list[tuple[str, bool]]:
        """The measured part, and the dashed one, which begins at the last point that was measured."""
        places = [self._place(*point) for point in curve.points if point[1] > 0]
        end = len(places) if curve.dashed is None else curve.dashed
        parts = [(places[:end], False), (places[max(end - 1, 0) :], True)]
        return [("M" + "L".join(f"{x:g} {y:g}" for x, y in part), dashed) for part, dashed in parts if len(part) > 1]

    def markers(self, curve: Curve) -> list[tuple[float, float]]:
        """Where the points lie, if they are few."""
        places = [self._place(*point) for point in curve.points if point[1] > 0]
        return places if len(places) <= 12 else places[:: len(places) // 6]

    @property
    def ticks(self) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
        """Of x and of y: places in the drawing, and what is written there."""
        x, y = self.axes
        across = [(x.place(value), text) for value, text in self.x_ticks] if self.x_ticks else x.ticks
        return (
            [(round(_LEFT + place * _WIDE / 100, 1), text) for place, text in across],
            [(round(_TOP + _HIGH - place * _HIGH / 100, 1), text) for place, text in y.ticks],
        )

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across, up = (axis.place(value) for axis, value in zip(self.axes, (x, y), strict=True))
        return round(_LEFT + across * _WIDE / 100, 1), round(_TOP + _HIGH - up * _HIGH / 100, 1)
