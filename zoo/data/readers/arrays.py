"""Images in npy and npz files, streamed: an array is never in memory as a whole."""

from __future__ import annotations

import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from zoo.data.packed import PackedSplit, describe
from zoo.data.readers.base import Item, Part, ReadOptions, Source
from zoo.errors import UserError

IMAGE_KEYS = ("data", "images", "x", "arr_0")
LABEL_KEYS = ("labels", "y", "arr_1")
CHUNK_BYTES = 4 << 20


class Array(NamedTuple):
    """An array in a file: what its header says and how to open it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    open: Callable[[], IO[bytes]]

    def rows(self) -> Iterator[np.ndarray]:
        """Chunks of rows, in order."""
        per_row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
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
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{name}: damaged or not a numpy array; get the file again") from error
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
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{name}: damaged npz file; get it again") from error
    if not isinstance(content, Path):
        weakref.finalize(archive, content.close)
    arrays = {}
    for member in archive.namelist():
        if member.endswith(".npy"):
            with archive.open(member) as stream:
                shape, dtype = _header(stream, f"{name}: {member}")
            arrays[member[:-4]] = Array(f"{name}: {member}", shape, dtype, lambda member=member: archive.open(member))
    return arrays  # fmt: skip


def spooled(source: IO[bytes]) -> IO[bytes]:
    """Copy of a stream that can seek, on disk once it is large; the stream is closed."""
    copy = tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)  # noqa: SIM115 - handed on
    with source as stream:
        while piece := stream.read(1 << 20):
            copy.write(piece)
    copy.seek(0)
    return copy  # type: ignore[return-value]


def layout(array: Array) -> tuple[tuple[int, int, int], Callable[[np.ndarray], np.ndarray]]:
    """Shape (H, W, C) of the images in an array, and what brings its rows there.

    Known: (N, H, W, C), (N, C, H, W), (N, H, W), and (N, 3 R R) with the channels one behind the other.

    Raises:
        UserError: not uint8, or another layout.
    """
    shape = array.shape
    if array.dtype != np.uint8:
        raise UserError(f"{array.name}: {array.dtype} numbers, expected uint8 pixels; convert them to 0..255 first")
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
    """Labels of an npz file, if it has one for each image."""
    for key in LABEL_KEYS:
        if key in arrays and arrays[key].shape == (count,):
            return np.concatenate(list(arrays[key].rows())).astype(np.int64)
    return None


def image_array(arrays: dict[str, Array], name: str) -> Array:
    """The array of an npz file that holds the images."""
    for key in IMAGE_KEYS:
        if key in arrays:
            return arrays[key]
    raise UserError(f"{name}: arrays {', '.join(arrays) or 'none'}; expected one of {', '.join(IMAGE_KEYS)}")


def open_source(path: Path, options: ReadOptions) -> Source:
    """An npy, npz or prepared file as a source of one or more parts."""
    if path.suffix in (".h5", ".hdf5"):
        return _packed(path)
    labels = None
    if path.suffix == ".npz":
        arrays = open_npz(path, str(path))
        array = image_array(arrays, str(path))
        labels = label_array(arrays, array.shape[0])
    else:
        array = open_npy(path)
    shape, _ = layout(array)
    part = Part("all", array.shape[0], lambda: array_items(array, labels))
    return Source((part,), shape, (path,), labels is not None)


def _packed(path: Path) -> Source:
    """One of our own files, its splits as parts."""
    info = describe(path)
    shapes = {split.shape[1:] for split in info.splits.values()}

    def items(name: str) -> Iterator[Item]:
        images = PackedSplit(path, name)
        for index in range(len(images)):
            yield Item(images.images([index])[0], int(images.labels([index])[0]))

    parts = tuple(Part(name, s.shape[0], lambda name=name: items(name)) for name, s in info.splits.items())
    return Source(parts, shapes.pop(), (path,), any(split.labelled for split in info.splits.values()))  # type: ignore[arg-type]
