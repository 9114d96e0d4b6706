"""Image files as the codec wants them, and back: nothing is converted that could not be given back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from zoo.codec.stream import Image
from zoo.codec.tiles import Pixels
from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.likelihood import from_levels, to_levels

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy")
_LARGEST_PIXELS = 1 << 28


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among paths and in folders (sorted by name).

    Raises:
        UserError: if a path does not exist, a folder holds no image, or two files have one name.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
            if not inside:
                raise UserError(f"{path}: no image in this folder (expected {', '.join(_SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such image; give files or folders")
    names = [path.name for path in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two images have this name; code them into separate files")
    return found


def open_image(path: Path, channels: int, bits: int = 8, reduce: bool = False) -> list[Image]:
    """One file as images to encode; an array of several images gives several.

    Args:
        path: PNG, JPEG, WebP, BMP or .npy (uint8, (H, W), (H, W, C) or (N, H, W, C)).
        channels: of the model.
        bits: depth the model codes.
        reduce: set the bits below that depth to zero, instead of refusing images that have them.

    Raises:
        UserError: if the file cannot be read, or holds what could not be given back (transparency, 16 bits).
    """
    if path.suffix.lower() == ".npy":
        return _open_array(path, channels, bits, reduce)
    try:
        with Pillow.open(path) as file:
            (width, height), mode = file.size, file.mode
            frames, transparency = getattr(file, "n_frames", 1), "transparency" in file.info
    except (OSError, Pillow.DecompressionBombError) as error:
        raise UserError(f"{path}: not an image that can be read ({error})") from error
    if mode not in ("RGB", "L", "P", "1") or transparency or frames != 1 or (channels == 1 and mode not in ("L", "1")):
        raise UserError(f"{path}: mode {mode} with {frames} frame(s); this model codes plain 8-bit images only")
    if width * height > _LARGEST_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels, more than {_LARGEST_PIXELS}; cut it up")
    grey = mode in ("L", "1")

    def load() -> Pixels:
        with Pillow.open(path) as opened:
            pixels = np.asarray(opened.convert("L" if grey else "RGB"))
        return _to_model(pixels if pixels.ndim == 3 else pixels[..., None], channels, bits, reduce)

    return [Image(path.name, (height, width), "L" if grey else "R", load)]


def _to_model(pixels: Pixels, channels: int, bits: int, reduce: bool) -> Pixels:
    """(H, W, c) -> (C, H, W); a grey image is repeated for a model of three colours."""
    planes = np.ascontiguousarray(np.broadcast_to(pixels.transpose(2, 0, 1), (channels, *pixels.shape[:2])))
    if reduce:
        planes = from_levels(to_levels(torch.from_numpy(planes), bits), bits).numpy()
    return planes


def _open_array(path: Path, channels: int, bits: int, reduce: bool) -> list[Image]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable .npy array ({error})") from error
    several = array.ndim == 4
    stack = array if several else array[None]
    stack = stack[..., None] if stack.ndim == 3 else stack
    if array.dtype != np.uint8 or stack.ndim != 4 or stack.shape[-1] not in (1, channels):
        raise UserError(f"{path}: expected uint8 (H, W), (H, W, C) or (N, H, W, C), got {array.dtype} {array.shape}")
    mode = "l" if stack.shape[-1] == 1 else "r"

    def loader(number: int) -> Image:
        name = f"{path.stem}-{number:06d}.npy" if several else path.name
        return Image(name, stack.shape[1:3], mode, lambda: _to_model(stack[number], channels, bits, reduce))

    return [loader(number) for number in range(len(stack))]


def from_batch(x: Tensor, prefix: str = "image") -> list[Image]:
    """Images (N, C, H, W) uint8 in memory, for the evaluator and the tests."""
    mode = "R" if x.shape[1] == 3 else "L"

    def image(number: int) -> Image:
        array: Pixels = np.ascontiguousarray(x[number].cpu().numpy())
        return Image(f"{prefix}-{number:06d}.png", (array.shape[1], array.shape[2]), mode, lambda: array)

    return [image(number) for number in range(len(x))]


def save_image(folder: Path, name: str, mode: str, pixels: Pixels) -> Path:
    """Write a decoded image (C, H, W): PNG, or .npy if it came as an array.

    Raises:
        UserError: if the name would leave the folder.
    """
    plain = PurePath(name).name
    if plain != name or name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise UserError(f"{name!r}: not a plain file name; the file was not written by `zoo compress`")
    planes = pixels[:1] if mode in "Ll" else pixels
    array = np.ascontiguousarray(planes.transpose(1, 2, 0))
    array = array[..., 0] if mode in "Ll" else array
    suffix = ".npy" if mode in "rl" else ".png"
    target = folder / (name if name.lower().endswith(suffix) else name + suffix)
    with atomic_path(target) as temporary:
        if suffix == ".npy":
            with open(temporary, "wb") as file:
                np.save(file, array)
        else:
            Pillow.fromarray(array).save(temporary, format="PNG")
    return target
