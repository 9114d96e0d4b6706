"""Line plots as PNG files, drawn with pillow alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from zoo.files import atomic_path

COLOURS = ["#1f4e79", "#c0504d", "#4f8f4f", "#8064a2", "#b8860b", "#2f9f9f"]
_SCALE = 2  # everything is drawn twice as large and shrunk, which smooths the lines


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        label: its name in the legend.
        points: (x, y), drawn in this order.
        dashed: draw it broken.
    """

    label: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


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


class _Axes:
    """Where numbers lie on the picture."""

    def __init__(self, lines: Sequence[Line], size: tuple[int, int], log_x: bool) -> None:
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        self.log_x = log_x
        if log_x:
            self.x_ticks = sorted(set(xs))
        else:
            self.x_ticks = nice_ticks(min(xs), max(xs))
        self.y_ticks = nice_ticks(min(ys), max(ys))
        self.left, self.top = 70 * _SCALE, 40 * _SCALE
        self.right, self.bottom = size[0] - 230 * _SCALE, size[1] - 55 * _SCALE  # the legend stands to the right

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


def draw_lines(
    path: str | os.PathLike[str],
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    size: tuple[int, int] = (900, 460),
) -> None:
    """Write a plot.

    Args:
        path: PNG file.
        lines: what to draw.
        title: heading.
        x_label: what the horizontal axis shows, with its unit.
        y_label: what the vertical axis shows, with its unit.
        log_x: logarithmic horizontal axis, with a tick at every point.
        size: width and height in pixels.

    Raises:
        ValueError: there is nothing to draw.
    """
    from PIL import Image, ImageDraw, ImageFont

    lines = [line for line in lines if line.points]
    if not lines:
        raise ValueError("nothing to plot")
    large = (size[0] * _SCALE, size[1] * _SCALE)
    image = Image.new("RGB", large, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12 * _SCALE)
    axes = _Axes(lines, large, log_x)
    _frame(pen, font, axes, x_label, y_label)
    pen.text((axes.left, 10 * _SCALE), title, fill="black", font=ImageFont.load_default(14 * _SCALE))
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        places = [(axes.x(x), axes.y(y)) for x, y in line.points]
        _path(pen, places, colour, line.dashed)
        row = axes.top + (6 + 18 * index) * _SCALE
        start = axes.right + 20 * _SCALE
        _path(pen, [(start, row + 7 * _SCALE), (start + 26 * _SCALE, row + 7 * _SCALE)], colour, line.dashed)
        pen.text((start + 32 * _SCALE, row), line.label, fill="black", font=font)
    with atomic_path(path) as temporary:
        image.resize(size, Image.Resampling.LANCZOS).save(temporary, format="PNG")


def _frame(pen, font, axes: _Axes, x_label: str, y_label: str) -> None:  # noqa: ANN001 (pillow is imported late)
    """Axes, grid lines, tick numbers and labels."""
    for tick in axes.y_ticks:
        pen.line([(axes.left, axes.y(tick)), (axes.right, axes.y(tick))], fill="#dddddd", width=_SCALE)
        pen.text((axes.left - 8 * _SCALE, axes.y(tick)), f"{tick:g}", fill="black", font=font, anchor="rm")
    shown = -math.inf
    for tick in axes.x_ticks:
        place = axes.x(tick)
        pen.line([(place, axes.bottom), (place, axes.bottom + 4 * _SCALE)], fill="black", width=_SCALE)
        if place - shown > 30 * _SCALE:  # numbers that would overlap are left out
            pen.text((place, axes.bottom + 8 * _SCALE), f"{tick:g}", fill="black", font=font, anchor="mt")
            shown = place
    corner = [(axes.left, axes.top), (axes.left, axes.bottom), (axes.right, axes.bottom)]
    pen.line(corner, fill="black", width=_SCALE)
    middle = (axes.left + axes.right) / 2
    pen.text((middle, axes.bottom + 30 * _SCALE), x_label, fill="black", font=font, anchor="mt")
    pen.text((8 * _SCALE, axes.top - 6 * _SCALE), y_label, fill="black", font=font, anchor="lb")


def _path(pen, places: Sequence[tuple[float, float]], colour: str, dashed: bool) -> None:  # noqa: ANN001
    """A line through the places, with a dot at each."""
    for (x0, y0), (x1, y1) in pairwise(places):
        pieces = max(int(math.hypot(x1 - x0, y1 - y0) / (8 * _SCALE)), 1) if dashed else 1
        for piece in range(0, pieces, 2):
            a, b = piece / pieces, min((piece + 1) / pieces, 1.0)
            ends = [(x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))]
            pen.line(ends, fill=colour, width=2 * _SCALE)
    radius = 3 * _SCALE
    for x, y in places:
        pen.ellipse([(x - radius, y - radius), (x + radius, y + radius)], fill=colour)
