"""Images in npy and npz files, streamed: an array is never in memory as a whole."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from zoo.data.packed import PackedSplit, describe
from zoo.data.readers.base import Item, Part, ReadOptions, Source
from zoo.errors import UserError
from zoo.imagefiles import MAX_PIXELS, kind_of_file

IMAGE_KEYS = ("data", "images", "x", "arr_0")
LABEL_KEYS = ("labels", "y", "arr_1")
CHUNK_BYTES = 4 << 20
NPY_START = b"\x93NUMPY"
MAX_HEADER = 1 << 16  # bytes; real ones have 128
MAX_NUMBERS = 1 << 46  # in an array: far more than any data set, little enough to compute with
MAX_IMAGES = 1 << 28  # of one array


class Array(NamedTuple):
    """An array in a file: what its header says and how to open it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    open: Callable[[], IO[bytes]]

    def rows(self) -> Iterator[np.ndarray]:
        """Chunks of rows, in order."""
        per_row = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, CHUNK_BYTES // max(1, per_row))
        with self.open() as stream:
            _header(stream, self.name)
            for start in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - start)
                content = _read(stream, count * per_row)
                if len(content) < count * per_row:
                    raise UserError(f"{self.name}: ends before its last row; get the file again")
                yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])


def _read(stream: IO[bytes], count: int) -> bytes:
    """Exactly `count` bytes unless the stream ends (decompressors return short reads)."""
    pieces = []
    while count > 0 and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array; the stream is left at its first number."""
    try:
        start = stream.read(8)  # magic, major and minor version
        length = stream.read(2 if start[6:7] == b"\x01" else 4)
        if start[:6] != NPY_START or int.from_bytes(length, "little") > MAX_HEADER:
            raise ValueError("no header of an array")
        header = io.BytesIO(start + length + stream.read(int.from_bytes(length, "little")))
        version = np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(header)
    except Exception as error:  # the header is parsed as Python, which raises nearly anything
        raise UserError(f"{name}: damaged or not a numpy array; get the file again") from error
    if math.prod(shape) > MAX_NUMBERS or any(side < 0 for side in shape):
        raise UserError(f"{name}: claims the shape {shape}; damaged, get the file again")
    if dtype.hasobject:
        raise UserError(f"{name}: holds Python objects, which are not loaded; save it as uint8 numbers")
    if fortran and len(shape) > 1:
        raise UserError(f"{name}: column-major array; save it with numpy.ascontiguousarray first")
    return shape, dtype


def open_npy(path: Path) -> Array:
    """The array of an npy file."""
    with open(path, "rb") as stream:
        shape, dtype = _header(stream, str(path))
    return Array(str(path), shape, dtype, lambda: open(path, "rb"))


def open_npz(content: Path | IO[bytes], name: str) -> dict[str, Array]:
    """The arrays of an npz file, by key."""
    try:
        archive = zipfile.ZipFile(content)
    except Exception as error:  # zipfile raises nearly anything
        raise UserError(f"{name}: damaged npz file ({error}); get it again") from error
    if not isinstance(content, Path):
        weakref.finalize(archive, content.close)
    arrays = {}
    for member in archive.namelist():
        if member.endswith(".npy"):
            with archive.open(member) as stream:
                shape, dtype = _header(stream, f"{name}: {member}")
            arrays[member[:-4]] = Array(f"{name}: {member}", shape, dtype, partial(archive.open, member))
    return arrays  # fmt: skip


def spooled(source: IO[bytes], limit: int) -> IO[bytes]:
    """Copy of a stream that can seek, on disk once it is large; the stream is closed.

    Raises:
        UserError: it gives more than `limit` bytes.
    """
    copy = tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)  # noqa: SIM115 - handed on
    with source as stream:
        while piece := stream.read(1 << 20):
            if copy.tell() + len(piece) > limit:
                raise UserError(f"unfolds to more than the {limit:,} bytes it claims; refused as a bomb")
            copy.write(piece)
    copy.seek(0)
    return copy


def layout(array: Array) -> tuple[tuple[int, int, int], Callable[[np.ndarray], np.ndarray]]:
    """Shape (H, W, C) of the images in an array, and what brings its rows there.

    Known: (N, H, W, C), (N, C, H, W), (N, H, W), and (N, 3 R R) with the channels one behind the other.

    Raises:
        UserError: not uint8, another layout, one that can be read in two ways, or images too large.
    """
    shape = array.shape
    if array.dtype != np.uint8:
        raise UserError(f"{array.name}: {array.dtype} numbers, expected uint8 pixels; convert them to 0..255 first")
    if 0 in shape or (len(shape) > 1 and (math.prod(shape[1:]) > 4 * MAX_PIXELS or shape[0] > MAX_IMAGES)):
        raise UserError(f"{array.name}: shape {shape}, no images or too large ones; expected (N, H, W, C)")
    if len(shape) == 4 and shape[3] in (1, 3) and shape[1] in (1, 3) and shape[1:] != (1, 1, 1):
        raise UserError(f"{array.name}: shape {shape}, channels may be first or last; add rows or crop to tell")
    if len(shape) == 3 and (shape[2] in (1, 3, 4) or shape[0] in (1, 3, 4)):
        raise UserError(
            f"{array.name}: shape {shape}, one picture or several grey ones; give (1, H, W, C) or (N, H, W, 1)"
        )
    if len(shape) == 4 and shape[3] in (1, 3):
        return (shape[1], shape[2], shape[3]), lambda rows: rows
    if len(shape) == 4 and shape[1] in (1, 3):
        return (shape[2], shape[3], shape[1]), lambda rows: rows.transpose(0, 2, 3, 1)
    if len(shape) == 3:
        return (shape[1], shape[2], 1), lambda rows: rows[..., None]
    if len(shape) == 2:
        side = round((shape[1] / 3) ** 0.5)
        if 3 * side * side == shape[1]:
            return (side, side, 3), lambda rows: rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    raise UserError(
        f"{array.name}: shape {shape}, expected (N, H, W, C), (N, C, H, W), (N, H, W) or (N, 3 R R); reshape it"
    )


def array_items(array: Array, labels: np.ndarray | None = None) -> Iterator[Item]:
    """Images of an array in order."""
    _, arrange = layout(array)
    position = 0
    for rows in array.rows():
        for image in arrange(rows):
            yield Item(image, None if labels is None else int(labels[position]))
            position += 1


def label_array(arrays: dict[str, Array], count: int) -> np.ndarray | None:
    """Labels of an npz file, if it has some.

    Raises:
        UserError: they are not one whole number of at least -1 for each image.
    """
    key = next((key for key in LABEL_KEYS if key in arrays), None)
    if key is None:
        return None
    array = arrays[key]
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise UserError(
            f"{array.name}: labels of {array.dtype} {array.shape}, expected whole numbers ({count},); leave them out "
            "or store one class number an image"
        )
    labels = np.concatenate(list(array.rows()))
    if labels.min() < -1 or labels.max() > np.iinfo(np.int32).max:
        raise UserError(f"{array.name}: labels from {labels.min()} to {labels.max()}, expected -1 (none) or more")
    return labels.astype(np.int64)


def image_array(arrays: dict[str, Array], name: str) -> Array:
    """The array of an npz file that holds the images.

    Raises:
        UserError: none, or several that may be meant.
    """
    named = [key for key in IMAGE_KEYS if key in arrays]
    if len(named) == 1:
        return arrays[named[0]]
    raise UserError(f"{name}: arrays {', '.join(arrays) or 'none'}; expected one of {', '.join(IMAGE_KEYS)}")


def open_source(path: Path, options: ReadOptions) -> Source:
    """An npy, npz or prepared file as a source of one or more parts."""
    kind = kind_of_file(path)
    if kind in ("data", "hdf5"):
        return _packed(path)
    labels = None
    if kind == "zip":
        arrays = open_npz(path, str(path))
        array = image_array(arrays, str(path))
        labels = label_array(arrays, array.shape[0])
    else:
        array = open_npy(path)
    shape, _ = layout(array)
    part = Part("all", array.shape[0], lambda: array_items(array, labels))
    notes = []
    if len(array.shape) == 2:
        notes.append(f"rows of {array.shape[1]} numbers taken as {shape[0]}x{shape[1]} red, green and blue planes")
    if len(array.shape) == 4 and array.shape[3] not in (1, 3):
        notes.append("channels come first in the array")
    return Source((part,), shape, (path,), labels is not None, notes=tuple(notes))


def is_arrays(path: Path) -> bool:
    """Whether a file holds arrays or is a prepared file, by its content."""
    kind = kind_of_file(path)
    if kind == "zip":
        with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return bool(names) and all(name.endswith(".npy") for name in names)
        return path.suffix == ".npz"
    return kind in ("npy", "data", "hdf5") or (kind == "" and path.suffix in (".npy", ".npz", ".h5", ".hdf5"))


def _packed(path: Path) -> Source:
    """One of our own files, its splits as parts."""
    info = describe(path)
    shapes = {split.shape[1:] for split in info.splits.values()}

    def items(name: str) -> Iterator[Item]:
        images = PackedSplit(path, name)
        for index in range(len(images)):
            yield Item(images.images([index])[0], int(images.labels([index])[0]))

    parts = tuple(Part(name, s.shape[0], partial(items, name)) for name, s in info.splits.items())
    return Source(parts, shapes.pop(), (path,), any(split.labelled for split in info.splits.values()))
