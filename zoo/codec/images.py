"""Image files as the codec wants them, and back: nothing is converted that could not be given back.

What is given back is a PNG with the same samples, colour profile, gamma, orientation and transparency; a .npy file
comes back as a .npy file of the same shape. What a file holds is read from the file, not from what Pillow makes of it.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from zoo.codec.container import Entry
from zoo.codec.names import given_name
from zoo.codec.stream import Image
from zoo.codec.tiles import Pixels
from zoo.errors import UserError, reading
from zoo.imagefiles import MAX_PIXELS, Picture, converted, find_pictures, kind_of_file, open_picture
from zoo.likelihood import from_levels, to_levels

_CHUNKS = (b"cHRM", b"gAMA", b"sRGB", b"cICP")  # of PNG: what samples mean in colour
_ORIENTATION = 0x0112


def find_images(paths: Sequence[str | Path]) -> tuple[list[tuple[Path, str]], list[str]]:
    """Pictures and arrays among paths and below folders, and what to call them.

    Returns:
        Files with their names: of a file its own, below a folder the path with "/" between the parts; and one line for
        each reason why something was left out.

    Raises:
        UserError: as `zoo.imagefiles.find_pictures`.
    """
    files, left_out = [], []
    for path in map(Path, paths):
        found = find_pictures([path], also=("npy",), deep=True)
        left_out += [f"{path}: {line}" for line in found.lines()]
        below = path if path.is_dir() else path.parent
        files += [(name, name.relative_to(below).as_posix()) for name in map(Path, found.names)]
    return files, left_out


def open_image(
    path: Path,
    channels: int,
    bits: int = 8,
    reduce: bool = False,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """One file as an image to encode, after everything in it was read once.

    Args:
        path: an image file of 8 bits a sample, or .npy (uint8, (H, W), (H, W, C) or (N, H, W, C)).
        channels: of the model.
        bits: depth the model codes.
        reduce: set the bits below that depth to zero, instead of refusing images that have them.
        name: under which it is given back; None takes the file's.
        max_pixels: refuse larger pictures before they are unfolded.

    Raises:
        UserError: if the file cannot be read, or holds what could not be given back.
    """
    name = path.name if name is None else name
    if kind_of_file(path) == "npy":
        return _open_array(path, name, channels, bits, reduce, max_pixels)
    pixels, mode, extras = _read(path, max_pixels)
    if channels == 1 and mode == "R":
        raise UserError(f"{path}: a picture in colour, but this model codes grey ones only")
    _check_bits(path, pixels, bits, reduce)

    def load(frame: int = 0) -> Pixels:
        return to_model(_read(path, max_pixels)[0], channels, bits, reduce)

    return Image(Entry(name, mode, (pixels.shape[0], pixels.shape[1]), extras), load)


def to_model(pixels: Pixels, channels: int, bits: int = 8, reduce: bool = False) -> Pixels:
    """(H, W, c) -> (C, H, W); a grey image is repeated for a model of three colours."""
    planes = np.ascontiguousarray(np.broadcast_to(pixels.transpose(2, 0, 1), (channels, *pixels.shape[:2])))
    if reduce:
        planes = from_levels(to_levels(torch.from_numpy(planes), bits), bits).numpy()
    return planes


def from_batch(x: Tensor, prefix: str = "image") -> list[Image]:
    """Images (N, C, H, W) uint8 in memory, for the evaluator and the tests."""
    mode = "R" if x.shape[1] == 3 else "L"

    def image(number: int) -> Image:
        array: Pixels = np.ascontiguousarray(x[number].cpu().numpy())
        entry = Entry(f"{prefix}-{number:06d}.png", mode, (array.shape[1], array.shape[2]), {})
        return Image(entry, lambda frame: array)

    return [image(number) for number in range(len(x))]


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(path: Path, max_pixels: int) -> tuple[Pixels, str, dict[str, bytes]]:
    """Samples (H, W, c), mode ("R", "L" or "1"), and what belongs to the picture besides."""
    with warnings.catch_warnings(), reading(path):
        warnings.simplefilter("ignore")  # of damaged notes inside; damaged pixels are errors
        file, described = open_picture(path, str(path), max_pixels)
        with file:
            _check_plain(path, described)
            extras = _meaning(path, file, described)
            colours = converted(file, "RGBA" if described.alpha else file.mode, str(path))
            if described.alpha:
                extras["alpha"] = _png(colours.getchannel("A"))
                grey = file.mode in ("L", "LA")
                colours = file.getchannel("L") if grey else colours.convert("RGB")
            mode = {"1": "1", "L": "L"}.get(colours.mode, "R")
            samples = np.asarray(colours.convert("RGB" if mode == "R" else "L"))
    return samples.reshape(*samples.shape[:2], -1), mode, extras


def _check_plain(path: Path, described: Picture) -> None:
    """Refuse what has more than eight bits a sample, several pictures, or colours that are not red, green and blue."""
    if described.depth > 8 or described.real:
        raise UserError(f"{path}: {described.depth} bits a sample; only 8-bit pictures can be given back bit for bit")
    if described.kind == "pnm" and _is_rescaled(path):
        raise UserError(f"{path}: its largest sample is not 255, so samples would be rescaled; convert it to PNG")
    if described.several:
        raise UserError(f"{path}: several frames or pages; save them as separate pictures, an animation is not coded")
    if described.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA"):
        raise UserError(f"{path}: samples of kind {described.mode}; only grey or RGB pictures are coded")


def _is_rescaled(path: Path) -> bool:
    """Whether Pillow spreads the samples of a PGM or PPM file to 0..255."""
    with open(path, "rb") as raw:
        words = re.sub(rb"#[^\n]*", b"", raw.read(1024)).split(None, 4)
    return words[0] not in (b"P1", b"P4") and words[3] != b"255"


def _meaning(path: Path, file: Pillow.Image, described: Picture) -> dict[str, bytes]:
    """What the samples mean: colour profile, PNG's colour chunks, and which way is up."""
    extras: dict[str, bytes] = {}
    if file.info.get("icc_profile"):
        extras["icc"] = bytes(file.info["icc_profile"])
    if described.kind == "png":
        extras |= {key.decode(): value for key, value in _chunks(path) if key in _CHUNKS}
    if described.orientation in range(2, 9) and described.kind != "tiff":  # Pillow turns TIFF files itself
        extras["orientation"] = bytes([described.orientation])
    return extras


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a PNG file before its samples."""
    with open(path, "rb") as raw:
        raw.seek(8)
        while len(head := raw.read(8)) == 8:
            length, key = struct.unpack(">I4s", head)
            if key == b"IDAT" or length > 1 << 20:
                return
            yield key, raw.read(length)
            raw.seek(4, io.SEEK_CUR)


def _open_array(path: Path, name: str, channels: int, bits: int, reduce: bool, max_pixels: int) -> Image:
    with reading(path):
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = array.shape
    fits = len(shape) == 2 or (len(shape) in (3, 4) and shape[-1] in (1, channels))
    if array.dtype != np.uint8 or not fits or 0 in shape:
        raise UserError(f"{path}: expected uint8 (H, W), (H, W, C) or (N, H, W, C), got {array.dtype} {shape}")
    entry = Entry(name, "A", shape, {})
    if entry.size[0] * entry.size[1] > max_pixels:
        raise UserError(f"{path}: pictures of {entry.size} pixels, more than --max-pixels {max_pixels}; cut them up")
    stack = array.reshape(entry.count, *entry.size, -1)
    for frame in stack if bits < 8 else ():
        _check_bits(path, frame, bits, reduce)
    return Image(entry, lambda frame: to_model(stack[frame], channels, bits, reduce))


def _check_bits(path: Path, pixels: Pixels, bits: int, reduce: bool) -> None:
    if not reduce and bits < 8 and bool((pixels & ((1 << (8 - bits)) - 1)).any()):
        raise UserError(
            f"{path}: has more than the {bits} bits this model codes; "
            "use an 8-bit checkpoint, or --reduce-bits to code the reduced image"
        )


# -- writing ----------------------------------------------------------------------------------------------------------


def save_image(folder: Path, entry: Entry, frame: int, pixels: Pixels) -> Path:
    """Write a decoded picture (C, H, W) below a folder that belongs to the caller alone.

    Args:
        folder: where; its names were checked by the container.
        entry: the file it belongs to.
        frame: number of the picture in its file.
        pixels: (C, H, W) of the model.
    """
    target = folder / given_name(entry.name, entry.mode)
    target.parent.mkdir(parents=True, exist_ok=True)
    array = pixels[: entry.channels].transpose(1, 2, 0)
    if entry.mode == "A":
        return _save_array(target, entry, frame, array)
    picture = Pillow.fromarray(np.ascontiguousarray(array if entry.mode == "R" else array[..., 0]))
    if entry.mode == "1":
        picture = picture.convert("1", dither=Pillow.Dither.NONE)
    if "alpha" in entry.extras:
        picture.putalpha(_alpha(entry))
    notes = PngInfo()
    for key in _CHUNKS:
        if key.decode() in entry.extras:
            notes.add(key, entry.extras[key.decode()])
    exif = Pillow.Exif()
    if "orientation" in entry.extras:
        exif[_ORIENTATION] = entry.extras["orientation"][0]
    icc = entry.extras.get("icc")
    picture.save(target, format="PNG", pnginfo=notes, icc_profile=icc, exif=exif.tobytes() if len(exif) else None)
    return target


def _save_array(target: Path, entry: Entry, frame: int, array: Pixels) -> Path:
    new = not target.exists()
    whole = np.lib.format.open_memmap(
        target, mode="w+" if new else "r+", dtype=np.uint8 if new else None, shape=entry.shape if new else None
    )
    whole.reshape(entry.count, *entry.size, -1)[frame] = array
    whole.flush()
    return target


def _png(image: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _alpha(entry: Entry) -> Pillow.Image:
    """The plane of transparency.

    Raises:
        UserError: if it is damaged or of another size than its picture.
    """
    try:
        with Pillow.open(io.BytesIO(entry.extras["alpha"]), formats=["PNG"]) as file:
            if file.size == entry.size[::-1] and file.mode == "L":
                return file.copy()
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
        pass
    raise UserError(f"{entry.name}: the plane of transparency is damaged; the file was not written by `zoo compress`")
