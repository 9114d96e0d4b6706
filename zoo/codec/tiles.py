"""Images of any size as tiles of the model's size, without overlap.

Tiles at the right and lower edge are filled up by repeating their last column and row. The repeated pixels are not
coded (`zoo.codec.symbols`); only the latents under them cost a little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Size = tuple[int, int]


def tile_sizes(height: int, width: int, tile: Size) -> list[Size]:
    """Real height and width of every tile of an image, row by row."""
    rows = [min(tile[0], height - top) for top in range(0, height, tile[0])]
    columns = [min(tile[1], width - left) for left in range(0, width, tile[1])]
    return [(row, column) for row in rows for column in columns]


def cut(image: Pixels, tile: Size) -> Iterator[Pixels]:
    """(C, H, W) -> its tiles (C, h, w), row by row, filled up by repetition."""
    _, height, width = image.shape
    for top in range(0, height, tile[0]):
        for left in range(0, width, tile[1]):
            piece = image[:, top : top + tile[0], left : left + tile[1]]
            below, right = tile[0] - piece.shape[1], tile[1] - piece.shape[2]
            yield np.pad(piece, ((0, 0), (0, below), (0, right)), mode="edge")


def even_batches(tiles: int, batch_size: int) -> list[int]:
    """Sizes of as few batches as there must be, as equal as they can be.

    Example:
        >>> even_batches(9, 4)
        [3, 3, 3]
    """
    count = -(-tiles // batch_size)
    return [tiles // count + (number < tiles % count) for number in range(count)]


def spread(tiles: int, count: int) -> list[int]:
    """Numbers of at most `count` tiles, equally far from each other.

    Example:
        >>> spread(10, 3)
        [1, 5, 8]
    """
    count = min(tiles, count)
    return [(2 * number + 1) * tiles // (2 * count) for number in range(count)]


def assemble(sizes: list[Size], tile: Size, channels: int, tiles: Iterable[Pixels]) -> Iterator[tuple[int, Pixels]]:
    """Put tiles that arrive last first back into images.

    Args:
        sizes: height and width of every image of the stream.
        tile: height and width of a tile.
        channels: C.
        tiles: all tiles of the stream in reverse order, (C, h, w).

    Yields:
        (number of the image, its pixels (C, H, W)), last image first. One image is held at a time.
    """
    arriving = iter(tiles)
    for number in range(len(sizes) - 1, -1, -1):
        height, width = sizes[number]
        canvas = np.zeros((channels, height, width), dtype=np.uint8)
        corners = [(top, left) for top in range(0, height, tile[0]) for left in range(0, width, tile[1])]
        for top, left in reversed(corners):
            piece = next(arriving)
            target = canvas[:, top : top + tile[0], left : left + tile[1]]
            target[...] = piece[:, : target.shape[1], : target.shape[2]]
        yield number, canvas


class PixelChecksum:
    """Order-free check sum over numbered images: XOR of keyed BLAKE2b digests, 8 bytes."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, number: int, image: Pixels) -> None:
        """Add an image (C, H, W)."""
        key = number.to_bytes(8, "little") + np.array(image.shape, dtype="<u4").tobytes()
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8, key=key).digest()
        self._sum ^= int.from_bytes(digest, "little")

    def digest(self) -> bytes:
        """The 8 bytes."""
        return self._sum.to_bytes(8, "little")
