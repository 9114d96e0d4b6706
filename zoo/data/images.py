"""Decoding and resizing pictures for data sets, with limits on what a file may unfold to and on what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from zoo.errors import UserError
from zoo.imagefiles import MAX_PIXELS, converted, open_picture

MAX_FILE_BYTES = 256 << 20  # of one image file

Filter = Literal["bilinear", "bicubic", "box", "lanczos", "nearest"]
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Decoded:
    """Pixels of a picture and what had to be decided on the way.

    Attributes:
        pixels: (H, W, C) uint8.
        notes: what was done that a user may want to know, one phrase each, to be counted.
        as_stored: whether these are the very samples of the file, neither turned nor converted nor resized.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    as_stored: bool = False


def decode(content: bytes, name: str, channels: int = 3, upright: bool = False) -> Decoded:
    """Pixels of a picture file.

    Args:
        content: the file's bytes.
        name: for messages.
        channels: 3 (converted to RGB) or 1 (to grey).
        upright: turn the picture as its EXIF orientation says; official code of the known sets does not.

    Raises:
        UserError: damaged, no picture, larger than `MAX_PIXELS`, of more than 8 bits, or with transparent pixels.
    """
    image, notes = _converted(content, name, channels, upright)
    width, height = image.size
    return Decoded(np.asarray(image, np.uint8).reshape(height, width, channels), notes, _as_stored(notes))


def decode_resized(
    content: bytes,
    name: str,
    size: int,
    method: Filter,
    box: tuple[int, int, int, int] | None = None,
    crop: bool = True,
    channels: int = 3,
    upright: bool = False,
) -> Decoded:
    """Pixels of a picture file, cut and resized to a square.

    Args:
        content: the file's bytes.
        name: for messages.
        size: side of the result.
        method: resampling filter; PIL's filters are widened when shrinking, so they do not alias.
        box: (left, top, right, bottom) cut out first.
        crop: resize the short side to `size` and cut the centre; otherwise the picture must be square already.
        channels: 3 or 1.
        upright: as in `decode`.

    Returns:
        (size, size, channels) pixels.

    Raises:
        UserError: as `decode`; or not square with `crop=False`, or so narrow that resizing would make too much of it.
    """
    image, notes = _converted(content, name, channels, upright)
    if box is not None:
        image = image.crop(box)
    width, height = image.size
    if width != height and not crop:
        raise UserError(f"{name}: {width}x{height} pixels, expected a square; allow cutting the centre with --crop")
    short = min(width, height)
    resized = short != size
    if resized:
        scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
        if scaled[0] * scaled[1] > MAX_PIXELS:
            raise UserError(
                f"{name}: {width}x{height} pixels would become {scaled[0]}x{scaled[1]}, more than the {MAX_PIXELS:,} "
                "allowed; cut the picture or leave it out"
            )
        image = image.resize(scaled, FILTERS[method])
        width, height = image.size
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, np.uint8).reshape(size, size, channels)
    whole = not resized and box is None and (width, height) == (size, size)
    return Decoded(pixels, notes, whole and _as_stored(notes))


PROFILE = "with a colour profile, which is not applied"
SEVERAL = "with further frames or pages, of which the first was taken"


def _as_stored(notes: tuple[str, ...]) -> bool:
    """Whether the notes leave the samples as they are in the file."""
    return set(notes) <= {PROFILE, SEVERAL}


def _converted(content: bytes, name: str, channels: int, upright: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode to grey or RGB; nothing is lost without being refused or noted."""
    image, facts = open_picture(content, name)
    with image:
        if facts.depth > 8 or facts.real or facts.mode in ("I", "F", "I;16"):
            samples = "floating-point" if facts.real else f"{facts.depth}-bit"
            raise UserError(
                f"{name}: {samples} samples, data sets here have 8 bits; convert the picture first, for example with "
                "`magick IN -depth 8 OUT`"
            )
        notes = []
        if facts.alpha:
            _check_opaque(converted(image, "RGBA", name), name)
            notes.append("with an alpha channel that is opaque everywhere, left out")
        if facts.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA", "La", "RGBa"):
            notes.append(f"in the colours {facts.mode}, converted by Pillow")
        if facts.several:
            notes.append(SEVERAL)
        if facts.profile:
            notes.append(PROFILE)
        pixels = converted(image, "L" if channels == 1 else "RGB", name)
        if channels == 1 and facts.mode not in ("1", "L", "LA", "La"):
            notes.append("in colour, converted to grey")
        if upright and facts.orientation not in (0, 1):
            pixels.getexif()[0x0112] = facts.orientation
            pixels = ImageOps.exif_transpose(pixels)
            notes.append("turned upright, as their EXIF orientation says")
    return pixels, tuple(notes)


def _check_opaque(image: Image.Image, name: str) -> None:
    lowest: Any = image.getchannel("A").getextrema()[0]
    if lowest < 255:
        raise UserError(f"{name}: has transparent pixels, which data sets cannot hold; lay it on a background first")
