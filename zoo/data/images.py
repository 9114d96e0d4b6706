"""Decoding and resizing image files, with limits on what a file may unfold to."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

from zoo.errors import UserError

MAX_PIXELS = 64_000_000  # of one image; FFHQ's largest originals stay below
MAX_FILE_BYTES = 256 << 20  # of one image file
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

Filter = Literal["bilinear", "bicubic", "box", "lanczos", "nearest"]
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def decode(content: bytes, name: str, channels: int = 3) -> np.ndarray:
    """Pixels of an image file.

    Args:
        content: the file's bytes.
        name: for messages.
        channels: 3 (converted to RGB) or 1 (to grey).

    Returns:
        (H, W, channels) uint8.

    Raises:
        UserError: damaged, not an image, or larger than `MAX_PIXELS`.
    """
    with _open(content, name) as image:
        return _array(image, name, channels)


def decode_resized(
    content: bytes,
    name: str,
    size: int,
    method: Filter,
    box: tuple[int, int, int, int] | None = None,
    crop: bool = True,
    channels: int = 3,
) -> np.ndarray:
    """Pixels of an image file, cut and resized to a square.

    Args:
        content: the file's bytes.
        name: for messages.
        size: side of the result.
        method: resampling filter; PIL's filters are widened when shrinking, so they do not alias.
        box: (left, top, right, bottom) cut out first.
        crop: resize the short side to `size` and cut the centre; otherwise the picture must be square already.
        channels: 3 or 1.

    Returns:
        (size, size, channels) uint8.

    Raises:
        UserError: damaged, not an image, too large, or not square with `crop=False`.
    """
    with _open(content, name) as image:
        converted = _convert(image, name, channels)
    if box is not None:
        converted = converted.crop(box)
    width, height = converted.size
    if width != height and not crop:
        raise UserError(f"{name}: {width}x{height} pixels, expected a square; allow cutting the centre with --crop")
    short = min(width, height)
    if short != size:
        scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
        converted = converted.resize(scaled, FILTERS[method])
        width, height = converted.size
    left, top = (width - size) // 2, (height - size) // 2
    converted = converted.crop((left, top, left + size, top + size))
    return np.asarray(converted, np.uint8).reshape(size, size, channels)


def _open(content: bytes, name: str) -> Image.Image:
    """Open without decoding, and refuse what would unfold to too much."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit gives our own message
    try:
        image = Image.open(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{name}: damaged or not an image; remove or replace it") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(f"{name}: {width}x{height} pixels, more than the {MAX_PIXELS:,} allowed; refused as a bomb")
    return image


def _convert(image: Image.Image, name: str, channels: int) -> Image.Image:
    try:
        return image.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{name}: damaged image; remove or replace it") from error


def _array(image: Image.Image, name: str, channels: int) -> np.ndarray:
    width, height = image.size
    return np.asarray(_convert(image, name, channels), np.uint8).reshape(height, width, channels)
