"""Images side by side on a white ground, large enough to be seen."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from zoo.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[np.uint8]

VISIBLE = 96  # pixels a side that a small image is enlarged to, at least
LARGEST = 4096  # pixels a side that enlarging never makes a grid exceed
GAP = 4
INK = 40


def grid(
    images: Any,
    columns: int | None = None,
    *,
    scale: int | None = None,
    heads: Sequence[str] = (),
    captions: Sequence[str] = (),
) -> Pixels:
    """Images side by side, row by row.

    Args:
        images: (N, C, H, W) uint8 with C = 1 or 3, an array or a tensor on the CPU.
        columns: images in a row; None makes the grid as square as it gets.
        scale: whole number by which every pixel is repeated, without smoothing; None makes images of fewer than 96
            pixels a side about that large.
        heads: a word above every column.
        captions: a line below every image.

    Returns:
        (H, W, C) uint8; three channels if there are words.

    Example:
        >>> import numpy as np
        >>> grid(np.zeros((3, 1, 8, 8), np.uint8), columns=3, scale=2).shape
        (16, 56, 1)
    """
    import numpy as np  # not at the top: tables draw plots and need no arrays

    pixels = np.asarray(images, dtype=np.uint8).transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    count = len(pixels)
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    side = max(pixels.shape[1] * rows, pixels.shape[2] * columns)
    factor = scale or max(1, min(-(-VISIBLE // max(pixels.shape[1:3])), LARGEST // side))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    _, height, width, channels = pixels.shape
    line, top = (16 if captions else 0), (18 if heads else 0)
    step_y, step_x = height + line + GAP, width + GAP
    size = (top + rows * step_y - GAP, columns * step_x - GAP)
    sheet = np.full((*size, 3 if heads or captions else channels), 255, np.uint8)
    for index, image in enumerate(pixels):
        y, x = top + index // columns * step_y, index % columns * step_x
        sheet[y : y + height, x : x + width] = image
    words = [(x * step_x + width // 2, 4, text) for x, text in enumerate(heads)]
    words += [
        (i % columns * step_x + width // 2, top + i // columns * step_y + height + 3, text)
        for i, text in enumerate(captions)
    ]
    return _written(sheet, words, width) if words else sheet


def save_grid(images: Any, path: str | os.PathLike[str], columns: int | None = None, **options: Any) -> None:
    """Write a grid as a PNG file, whole or not at all.

    Args:
        images: (N, C, H, W) uint8.
        path: file to write.
        columns: images in a row.
        options: those of `grid`.
    """
    save_picture(path, grid(images, columns, **options))


def save_picture(path: str | os.PathLike[str], picture: Pixels) -> None:
    """Write (H, W, C) pixels, C = 1 or 3, as a PNG file, whole or not at all."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture).save(temporary, format="PNG")


def _written(sheet: Pixels, words: Sequence[tuple[int, int, str]], width: int) -> Pixels:
    """The sheet with words centred at places, each cut to the width of an image."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(sheet)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for x, y, text in words:
        while len(text) > 1 and pen.textlength(text, font=font) > width + GAP:
            text = text[:-2].rstrip() + "…"
        pen.text((x, y), text, fill=(INK, INK, INK), font=font, anchor="mt")
    return np.asarray(picture)
