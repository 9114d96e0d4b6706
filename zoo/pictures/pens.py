"""What plots are drawn with: pixels, or the words of an SVG file."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

Place = tuple[float, float]
_SCALE = 2  # pixels are drawn twice as large and shrunk, which smooths the lines
_PIXEL_COLOURS = {"ink": "#000000", "grid": "#dddddd"}
_SVG_COLOURS = {"ink": "currentColor", "grid": "var(--line, #8884)"}


class Pen(Protocol):
    """Draws in pixels from the upper left corner; colours are names ("ink", "grid") or #rrggbb."""

    def line(self, start: Place, end: Place, colour: str, width: int, dashed: bool = False) -> None:
        """A straight line."""
        ...

    def area(self, corners: Sequence[Place], colour: str) -> None:
        """A filled shape that lets through what is below."""
        ...

    def dot(self, place: Place, colour: str, note: str = "") -> None:
        """A point; the note is for who points at it."""
        ...

    def text(self, place: Place, words: str, anchor: str, large: bool = False) -> None:
        """Words; the anchor is l, m or r and t, m or b, for the part of the words that lies at the place."""
        ...


class PixelPen:
    """Draws on a white picture.

    Args:
        size: width and height.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._size = size
        self._image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
        self._pen = ImageDraw.Draw(self._image, "RGBA")
        self._fonts = {large: ImageFont.load_default((14 if large else 12) * _SCALE) for large in (False, True)}

    def line(self, start: Place, end: Place, colour: str, width: int, dashed: bool = False) -> None:
        """A straight line."""
        (x0, y0), (x1, y1) = start, end
        pieces = max(int(math.hypot(x1 - x0, y1 - y0) / 5), 1) if dashed else 1
        for piece in range(0, pieces, 2):
            a, b = piece / pieces, min((piece + 1) / pieces, 1.0)
            ends = [(x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))]
            self._pen.line([_large(end) for end in ends], fill=_PIXEL_COLOURS.get(colour, colour), width=width * _SCALE)

    def area(self, corners: Sequence[Place], colour: str) -> None:
        """A filled shape that lets through what is below."""
        self._pen.polygon([_large(corner) for corner in corners], fill=f"{colour}28")

    def dot(self, place: Place, colour: str, note: str = "") -> None:
        """A point."""
        x, y = _large(place)
        radius = 3 * _SCALE
        self._pen.ellipse([(x - radius, y - radius), (x + radius, y + radius)], fill=colour)

    def text(self, place: Place, words: str, anchor: str, large: bool = False) -> None:
        """Words."""
        self._pen.text(_large(place), words, fill="black", font=self._fonts[large], anchor=anchor)

    def finished(self) -> Image.Image:
        """The picture."""
        from PIL import Image

        return self._image.resize(self._size, Image.Resampling.LANCZOS)


def _large(place: Place) -> Place:
    return (place[0] * _SCALE, place[1] * _SCALE)


class SvgPen:
    """Writes an SVG element that scales with the page.

    Args:
        size: width and height of its own coordinates.
        title: what screen readers say.
    """

    def __init__(self, size: tuple[int, int], title: str) -> None:
        self._parts = [
            f'<svg class="plot" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{html.escape(title)}">'
        ]

    def line(self, start: Place, end: Place, colour: str, width: int, dashed: bool = False) -> None:
        """A straight line."""
        dashes = ' stroke-dasharray="5 5"' if dashed else ""
        self._parts.append(
            f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
            f'stroke="{_SVG_COLOURS.get(colour, colour)}" stroke-width="{width}"{dashes}/>'
        )

    def area(self, corners: Sequence[Place], colour: str) -> None:
        """A filled shape that lets through what is below."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self._parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.16"/>')

    def dot(self, place: Place, colour: str, note: str = "") -> None:
        """A point whose note the browser shows."""
        inside = f"<title>{html.escape(note)}</title>" if note else ""
        self._parts.append(
            f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4" fill="{colour}" fill-opacity="0.85">'
            f"{inside}</circle>"
        )

    def text(self, place: Place, words: str, anchor: str, large: bool = False) -> None:
        """Words."""
        side = {"l": "start", "m": "middle", "r": "end"}[anchor[0]]
        size = 15 if large else 12
        drop = {"t": 0.85 * size, "m": 0.35 * size, "b": 0.0}[anchor[1]]
        weight = ' font-weight="600"' if large else ""
        self._parts.append(
            f'<text x="{place[0]:.1f}" y="{place[1] + drop:.1f}" text-anchor="{side}" font-size="{size}"{weight} '
            f'fill="currentColor">{html.escape(words)}</text>'
        )

    def finished(self) -> str:
        """The element."""
        return "\n".join([*self._parts, "</svg>"])
