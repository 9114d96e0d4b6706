"""What classical lossless codecs need for the same images: real files, decoded again and compared.

Two ways to run them, both reported: every tile as its own file, as the models price tiles independently; and one
montage of all images, which spares the codecs the headers and lets them look across tiles, as the models cannot.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError


@dataclass(frozen=True)
class ClassicalCodec:
    """A lossless codec as Pillow writes it."""

    name: str
    format: str
    settings: Mapping[str, Any]
    how: str


PNG = ClassicalCodec("PNG", "PNG", {"optimize": True}, "Pillow, optimize")
WEBP = ClassicalCodec("lossless WebP", "WEBP", {"lossless": True, "quality": 100, "method": 6}, "quality 100, method 6")
JPEG_XL = ClassicalCodec("JPEG XL", "JXL", {"lossless": True, "effort": 9}, "lossless, effort 9")


def available() -> list[ClassicalCodec]:
    """The codecs this installation has; JPEG XL comes with the extra `jxl`."""
    found = [PNG]
    if features.check("webp"):
        found.append(WEBP)
    try:
        import pillow_jxl  # noqa: F401 (registers the format)
    except ImportError:
        return found
    return [*found, JPEG_XL]


class Coded(NamedTuple):
    """Size of a file in bytes, and the seconds to write and to read it."""

    size: int
    encode: float
    decode: float


def code_file(codec: ClassicalCodec, pixels: np.ndarray) -> Coded:
    """Write these pixels as a file, headers included, read it again and compare.

    Args:
        codec: how to write it.
        pixels: (H, W, C) uint8, C = 1 or 3.

    Raises:
        UserError: the codec did not give the pixels back.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    start = time.perf_counter()
    image.save(stream, codec.format, **codec.settings)
    middle = time.perf_counter()
    stream.seek(0)
    with Image.open(stream) as decoded:
        back = np.asarray(decoded.convert(image.mode))
    end = time.perf_counter()
    if not np.array_equal(back.reshape(pixels.shape), pixels):
        raise UserError(f"{codec.name} did not give the pixels back; it is not lossless in this installation")
    return Coded(len(stream.getvalue()), middle - start, end - middle)


def tiles_of(images: np.ndarray, size: int) -> np.ndarray:
    """Windows that tile the images row by row, as evaluation cuts them.

    Args:
        images: (N, H, W, C).
        size: side of a window, a divisor of H and W.

    Returns:
        (N * H/size * W/size, size, size, C).
    """
    n, height, width, channels = images.shape
    grid = images.reshape(n, height // size, size, width // size, size, channels)
    return grid.swapaxes(2, 3).reshape(-1, size, size, channels)


def montage(images: np.ndarray) -> np.ndarray:
    """All images in one, row by row in a grid as square as their number allows without a gap; (H', W', C)."""
    n, height, width, channels = images.shape
    columns = max(divisor for divisor in range(1, math.isqrt(n) + 1) if n % divisor == 0)
    grid = images.reshape(columns, n // columns, height, width, channels)
    return grid.swapaxes(1, 2).reshape(columns * height, n // columns * width, channels)


def stored_forms(images: np.ndarray, bits: int) -> dict[str, np.ndarray]:
    """Ways to hand reduced images to a codec that knows 8-bit samples only.

    The levels themselves (0 to 2^bits - 1), or the levels in the upper bits as the models' decoders return them. Both
    are lossless; the smaller file counts.
    """
    levels = images >> (8 - bits)
    return {"8-bit samples": images} if bits == 8 else {"levels": levels, "upper bits": levels << (8 - bits)}


def code_images(
    images: np.ndarray,
    bits: int,
    tile: int,
    identity: Mapping[str, str | int],
    codecs: Sequence[ClassicalCodec] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Measurement]:
    """Bits/dim of every available codec, tile by tile and as one montage.

    Args:
        images: (N, H, W, C) uint8, 8-bit source.
        bits: depth to reduce them to.
        tile: side of the tiles.
        identity: settings that name the images (data set, split, digest).
        codecs: which; default: all that this installation has.
        progress: called with a codec's name when it is done.
    """
    found = []
    for codec in available() if codecs is None else codecs:
        for layout in ("tiles", "montage"):
            started = time.perf_counter()
            coded: dict[str, list[Coded]] = {}
            for form, pixels in stored_forms(images, bits).items():
                parts = tiles_of(pixels, tile) if layout == "tiles" else montage(pixels)[None]
                with ThreadPoolExecutor(os.cpu_count()) as pool:  # codecs release the interpreter
                    coded[form] = list(pool.map(partial(code_file, codec), parts))
            form = min(coded, key=lambda name: sum(file.size for file in coded[name]))
            settings = {**identity, "bits": bits, "layout": layout, "tile": tile, "how": codec.how, "stored as": form}
            size = sum(file.size for file in coded[form])
            tiles = images.size // (tile * tile * images.shape[3])
            values = {"bits/dim": 8 * size / images.size, "bytes": size, "tiles": tiles}
            for name in ("encode", "decode"):
                values[f"{name} tiles/s"] = tiles / sum(getattr(file, name) for file in coded[form])
            line = Measurement(question="classical", subject=codec.name, settings=settings, values=values)
            found.append(_stamped(line, round(time.perf_counter() - started, 3)))
        if progress is not None:
            progress(codec.name)
    return found


def _stamped(line: Measurement, seconds: float) -> Measurement:
    """The measurement with date, versions and hardware."""
    return dataclasses.replace(line, seconds=seconds, **stamp())


def measure_photos(progress: Callable[[str], None] | None = None) -> Iterator[Measurement]:
    """Every available codec on the test split of the bundled photographs, at 8 and 5 bits.

    Args:
        progress: called with a codec's name when it is done.
    """
    from zoo.data import open_split

    loader = open_split("photos", "test", (3, 64, 64), whole=True)
    x, _ = loader.first(loader.plan.num_samples)
    images = x.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    identity = {"dataset": "photos", "split": "test", "digest": loader.reader.images.info.sha256}
    for bits in (8, 5):
        yield from code_images(images, bits, 32, identity, progress=progress)


def measure() -> Iterator[Measurement]:
    """Bits/dim of PNG, WebP and JPEG XL on the bundled test photographs: real files, decoded again and compared."""
    yield from measure_photos()
