"""Plots: curves and points with axes and a legend, as a PNG file, a picture or SVG text."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from zoo.files import atomic_path

if TYPE_CHECKING:
    from PIL import Image

    from zoo.pictures.pens import Pen

COLOURS = ("#2f6db5", "#d1602f", "#3d9455", "#8a5bb0", "#b8860b", "#2f9f9f", "#c2457b", "#6b7280")


@dataclass(frozen=True)
class Curve:
    """One line or cloud of points.

    Attributes:
        label: its name in the legend.
        points: (x, y), drawn in this order.
        dashed: draw the line broken.
        line: join the points; False draws points alone.
        marks: draw a dot at each point.
        band: half width around the line at each point; empty = none.
        notes: words for each point, shown by a browser when it is pointed at.
    """

    label: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    line: bool = True
    marks: bool = True
    band: Sequence[float] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """Curves and what their axes say.

    Attributes:
        curves: what to draw.
        title: heading.
        x_label, y_label: what the axes show, with units.
        log_x: logarithmic horizontal axis.
        size: width and height in pixels.
    """

    curves: Sequence[Curve]
    title: str
    x_label: str
    y_label: str
    log_x: bool = False
    size: tuple[int, int] = field(default=(900, 460))


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers that cover an interval.

    Example:
        >>> nice_ticks(0.1, 8.7)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that cover an interval; powers alone over more than three decades.

    Example:
        >>> log_ticks(3, 70)
        [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    every = [factor * 10.0**decade for decade in decades for factor in factors]
    first = max((tick for tick in every if tick <= low * (1 + 1e-9)), default=every[0])
    last = min((tick for tick in every if tick >= high * (1 - 1e-9)), default=every[-1])
    return [tick for tick in every if first <= tick <= last]


class _Axes:
    """Where numbers lie on the picture."""

    def __init__(self, plot: Plot) -> None:
        xs = [x for curve in plot.curves for x, _ in curve.points]
        ys = [y + side for c in plot.curves for (_, y), d in _banded(c) for side in (-d, d)]
        self.log_x = plot.log_x
        self.x_ticks = log_ticks(min(xs), max(xs)) if plot.log_x else nice_ticks(min(xs), max(xs))
        self.y_ticks = nice_ticks(min(ys), max(ys))
        self.legend = plot.size[0] >= 560 and len(plot.curves) > 1
        self.left, self.top = 62, 46
        longest = max((len(curve.label) for curve in plot.curves), default=0)
        self.right = plot.size[0] - (min(60 + 7 * longest, plot.size[0] // 2) if self.legend else 20)
        self.bottom = plot.size[1] - 52

    def x(self, value: float) -> float:
        """Horizontal place."""
        low, high, at = self.x_ticks[0], self.x_ticks[-1], value
        if self.log_x:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self.left + (at - low) / ((high - low) or 1.0) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Vertical place."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def _banded(curve: Curve) -> list[tuple[tuple[float, float], float]]:
    """The points of a curve, each with the half width of its band."""
    return list(zip(curve.points, curve.band or [0.0] * len(curve.points), strict=True))


def draw(plot: Plot, pen: Pen) -> None:
    """Draw a plot with a pen.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not any(curve.points for curve in plot.curves):
        raise ValueError("nothing to plot")
    axes = _Axes(plot)
    _frame(plot, axes, pen)
    for index, curve in enumerate(plot.curves):
        colour = COLOURS[index % len(COLOURS)]
        places = [(axes.x(x), axes.y(y)) for x, y in curve.points]
        if curve.band:
            upper = [(axes.x(x), axes.y(y + d)) for (x, y), d in _banded(curve)]
            lower = [(axes.x(x), axes.y(y - d)) for (x, y), d in _banded(curve)]
            pen.area([*upper, *reversed(lower)], colour)
        if curve.line:
            for a, b in pairwise(places):
                pen.line(a, b, colour, 2, curve.dashed)
        notes = curve.notes or [""] * len(places)
        for place, note in zip(places, notes, strict=True):
            if curve.marks or note:
                pen.dot(place, colour, f"{curve.label}: {note}" if note else "")
    _legend(plot, axes, pen)


def _frame(plot: Plot, axes: _Axes, pen: Pen) -> None:
    """Axes, grid lines, tick numbers, labels and title."""
    for tick in axes.y_ticks:
        pen.line((axes.left, axes.y(tick)), (axes.right, axes.y(tick)), "grid", 1)
        pen.text((axes.left - 8, axes.y(tick)), _number(tick), "rm")
    shown = -math.inf
    for tick in axes.x_ticks:
        place = axes.x(tick)
        pen.line((place, axes.bottom), (place, axes.bottom + 4), "ink", 1)
        if place - shown > 34:  # numbers that would overlap are left out
            pen.text((place, axes.bottom + 8), _number(tick), "mt")
            shown = place
    pen.line((axes.left, axes.top), (axes.left, axes.bottom), "ink", 1)
    pen.line((axes.left, axes.bottom), (axes.right, axes.bottom), "ink", 1)
    pen.text(((axes.left + axes.right) / 2, axes.bottom + 28), plot.x_label, "mt")
    pen.text((8, axes.top - 12), plot.y_label, "lb")
    pen.text((axes.left, 6), plot.title, "lt", large=True)


def _legend(plot: Plot, axes: _Axes, pen: Pen) -> None:
    """Names of the curves to the right; in a narrow picture they stand in the notes of the points alone."""
    if not axes.legend:
        return
    for index, curve in enumerate(plot.curves):
        row, start = axes.top + 8 + 18 * index, axes.right + 16
        if curve.line:
            pen.line((start, row), (start + 24, row), COLOURS[index % len(COLOURS)], 2, curve.dashed)
        if curve.marks:
            pen.dot((start + 12, row), COLOURS[index % len(COLOURS)])
        pen.text((start + 30, row), curve.label, "lm")


def _number(value: float) -> str:
    """A tick, with thousands and millions as letters.

    Example:
        >>> [_number(v) for v in (0.25, 20, 3000, 2.5e6)]
        ['0.25', '20', '3k', '2.5M']
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def picture(plot: Plot) -> Image.Image:
    """The plot as a picture in memory."""
    from zoo.pictures.pens import PixelPen

    pen = PixelPen(plot.size)
    draw(plot, pen)
    return pen.finished()


def svg(plot: Plot) -> str:
    """The plot as an SVG element whose ink follows the page's text colour."""
    from zoo.pictures.pens import SvgPen

    pen = SvgPen(plot.size, plot.title)
    draw(plot, pen)
    return pen.finished()


def save_plot(path: str | os.PathLike[str], plot: Plot) -> None:
    """Write a plot as a PNG file, whole or not at all.

    Raises:
        ValueError: there is nothing to draw.
    """
    drawn = picture(plot)
    with atomic_path(path) as temporary:
        drawn.save(temporary, format="PNG")
