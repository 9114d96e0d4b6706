"""Reading the one file format of the data path: HDF5 with uint8 images, their labels and their provenance.

Layout (`N` images, `H`, `W` pixels, `C` channels; format version 1):

    512 bytes                  seal: our name and the sha256 of everything behind it, written last
    /train, /val, /test        one group a split; a file may lack some
        images [N, H, W, C]    uint8, contiguous, so it can be memory-mapped          (encoding "raw")
        bytes [total]          uint8, PNG files one behind the other                  (encoding "png")
        offsets [N + 1]        int64, where each of them starts
        labels [N]             int64, optional
        attributes             shape [N, H, W, C], sha256 of the pixels in order
    attributes                 format, format_version, name, variant, encoding, filter, split_rule, licence, sources

Indexing h5py with a list of rows is 27 to 93 times slower than a loop over rows, so it is never done here. Files are
opened at the first read in each process and never travel between processes.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.data.seals import check_seal
from zoo.errors import UserError, closest, reading
from zoo.imagefiles import MAX_PIXELS

FORMAT = "zoo-images"
VERSION = 1
MAX_PNG_BYTES = 256 << 20  # of one stored image
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitInfo:
    """Shape and digest of one split."""

    shape: tuple[int, int, int, int]  # (N, H, W, C)
    sha256: str  # of the uint8 pixels, in order
    labelled: bool


@dataclass(frozen=True)
class FileInfo:
    """What a prepared file says of itself."""

    path: Path
    name: str
    variant: str  # numbers of two variants are never put under one heading
    encoding: str  # "raw" or "png"
    splits: Mapping[str, SplitInfo]
    attributes: Mapping[str, Any]

    def split(self, name: str) -> SplitInfo:
        """Facts of one split.

        Raises:
            UserError: the file has no such split.
        """
        if name not in self.splits:
            have = ", ".join(self.splits)
            raise UserError(f"{self.path}: no split '{name}'; it has {have} ({closest(name, self.splits)})")
        return self.splits[name]


def describe(path: str | os.PathLike[str]) -> FileInfo:
    """Read the attributes of a prepared file.

    Raises:
        UserError: missing, damaged, or not one of our files.
    """
    with open_packed(path) as file, reading(path, _ADVICE):
        attributes = {key: value.item() if hasattr(value, "item") else value for key, value in file.attrs.items()}
        encoding = str(attributes["encoding"])
        splits = {name: _split_info(file, name, encoding) for name in SPLITS if name in file}
        return FileInfo(Path(path), attributes["name"], attributes["variant"], encoding, splits, attributes)


_ADVICE = "check it with `zoo data verify`, prepare or copy it again"


def _split_info(file: h5py.File, name: str, encoding: str) -> SplitInfo:
    """Facts of one split, after checking that its arrays are what they claim to be and lie in this file."""
    group = own(file, name)
    shape: tuple[int, ...]
    if encoding == "raw":
        images = _array(group, "images", np.uint8)
        shape = images.shape
    elif encoding == "png":
        shape = tuple(int(side) for side in np.asarray(group.attrs["shape"]).reshape(-1))
        _array(group, "bytes", np.uint8)
        if _array(group, "offsets", np.int64).shape != (shape[0] + 1,):
            raise ValueError("offsets do not fit the number of images")
    else:
        raise ValueError(f"encoding {encoding!r}")
    if len(shape) != 4 or min(shape) < 1 or shape[3] not in (1, 3) or shape[1] * shape[2] > MAX_PIXELS:
        raise ValueError(f"images of shape {shape}")
    labelled = "labels" in group
    if labelled and _array(group, "labels", np.int64).shape != shape[:1]:
        raise ValueError("labels do not fit the number of images")
    return SplitInfo((shape[0], shape[1], shape[2], shape[3]), str(group.attrs["sha256"]), labelled)


def own(group: h5py.Group, name: str) -> Any:
    """A member whose content is in this file itself.

    Raises:
        ValueError: a link, or numbers kept in other files.
    """
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"'{name}' is a link")
    member = group[name]
    if isinstance(member, h5py.Dataset) and (member.external or member.is_virtual):
        raise ValueError(f"'{name}' refers to other files")
    return member


def _array(group: h5py.Group, name: str, kind: type) -> h5py.Dataset:
    """A plain stored array: of its own file, unfiltered, and with all its bytes there."""
    array = own(group, name)
    if not isinstance(array, h5py.Dataset) or array.dtype != kind:
        raise ValueError(f"'{name}' is not an array of {kind.__name__}")
    if array.id.get_create_plist().get_nfilters() or array.id.get_storage_size() < array.size * array.dtype.itemsize:
        raise ValueError(f"'{name}' is packed or has not all its bytes")
    return array


def open_packed(path: str | os.PathLike[str]) -> h5py.File:
    """Open a prepared file for reading after comparing it with its seal (once, see `zoo.data.seals`).

    Raises:
        UserError: missing, damaged, or not one of our files.
    """
    check_seal(Path(path))
    with reading(path, "prepare it again with `zoo data prepare`"):
        return h5py.File(path, "r", locking=False)


class PackedSplit:
    """Images of one split, read by index; safe to pickle, to fork and to spawn.

    Args:
        path: a prepared file.
        split: "train", "val" or "test".
        limit: use only the first so many images.
    """

    def __init__(self, path: str | os.PathLike[str], split: str, limit: int | None = None) -> None:
        self.path = Path(path)
        self.split_name = split
        info = describe(path)
        self.info = info.split(split)
        count, self.height, self.width, self.channels = self.info.shape
        self.encoding = info.encoding
        self.num_images = count if limit is None else min(limit, count)
        self._closed()

    def _closed(self) -> None:
        """Nothing is open in this process."""
        self._process: int | None = None
        self._mapped: os.stat_result | None = None
        self._piece = 0
        self._pixels: np.ndarray | None = None
        self._labels: np.ndarray | None = None
        self._offsets: np.ndarray = np.zeros(1, np.int64)
        self._pieces: list[np.ndarray] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._closed()

    def __len__(self) -> int:
        return self.num_images

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Whole images, (n, H, W, C) uint8."""
        self._open()
        if self._pixels is not None:
            result: np.ndarray = self._pixels[np.asarray(indices)]
            return result
        return np.stack([self._decode(int(index)) for index in indices])

    def crops(
        self, indices: Sequence[int] | np.ndarray, tops: np.ndarray, lefts: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """Windows of images, (n, *size, C) uint8; only the pages under the windows are read."""
        self._open()
        height, width = size
        windows = np.empty((len(indices), height, width, self.channels), np.uint8)
        for row, (index, top, left) in enumerate(zip(indices, tops, lefts, strict=True)):
            image = self._pixels[index] if self._pixels is not None else self._decode(int(index))
            windows[row] = image[top : top + height, left : left + width]
        return windows

    def labels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Class labels, (n,) int64; -1 where the file has none."""
        self._open()
        if self._labels is None:
            return np.full(len(indices), -1, np.int64)
        result: np.ndarray = self._labels[np.asarray(indices)]
        return result

    def _open(self) -> None:
        """Open the file once in each process, and make sure at each reading that it is still whole."""
        if self._process == os.getpid():
            self._check_whole()
            return
        with open_packed(self.path) as file, reading(self.path, _ADVICE):
            _split_info(file, self.split_name, self.encoding)
            group = file[self.split_name]
            self._pixels = self._map(group["images"]) if self.encoding == "raw" else None
            if self._pixels is None:
                self._offsets, self._pieces = group["offsets"][:], self._map_pieces(group["bytes"])
            self._labels = group["labels"][:] if "labels" in group else None
        self._mapped, self._process = os.stat(self.path), os.getpid()

    def _map(self, images: h5py.Dataset) -> np.ndarray:
        """Contiguous pixels as a memory map past h5py."""
        offset = images.id.get_offset()
        if offset is None:
            raise ValueError("pixels are not stored in one piece")
        # as a plain array: the subclass costs some microseconds at each access
        return np.memmap(self.path, np.uint8, "r", offset, images.shape).view(np.ndarray)

    def _map_pieces(self, content: h5py.Dataset) -> list[np.ndarray]:
        """The pieces of the PNG files' bytes as memory maps past h5py, in order."""
        whole = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        self._piece = int(content.chunks[0])
        pieces = []
        for number in range(-(-content.shape[0] // self._piece)):
            offset = content.id.get_chunk_info_by_coord((number * self._piece,)).byte_offset
            pieces.append(whole[offset : offset + self._piece])
        return pieces

    def _check_whole(self) -> None:
        """Refuse a file that was cut since it was mapped, whose missing pages would end the process."""
        with contextlib.suppress(FileNotFoundError):  # a file that was removed or replaced lives on while it is mapped
            now, then = os.stat(self.path), self._mapped
            if then is not None and now.st_ino == then.st_ino and now.st_size < then.st_size:
                raise UserError(f"{self.path}: was cut short while it was read; prepare or copy it again")

    def _decode(self, index: int) -> np.ndarray:
        """One stored PNG, (H, W, C) uint8."""
        from PIL import Image

        with reading(f"{self.path}: {self.split_name} image {index}", _ADVICE):
            start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
            with Image.open(io.BytesIO(self._stored(start, stop)), formats=["PNG"]) as image:
                if image.size != (self.width, self.height) or image.mode != ("L" if self.channels == 1 else "RGB"):
                    raise ValueError(f"a picture of {image.size} in {image.mode}")
                return np.asarray(image).reshape(self.height, self.width, self.channels)

    def _stored(self, start: int, stop: int) -> bytes:
        """Bytes of the PNG files from `start` to `stop`, which may reach over several pieces."""
        if not 0 <= start < stop <= start + MAX_PNG_BYTES:
            raise ValueError(f"offsets {start} and {stop}")
        first, last = start // self._piece, (stop - 1) // self._piece
        parts = [self._pieces[number] for number in range(first, last + 1)]
        base = first * self._piece
        together = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return together[start - base : stop - base].tobytes()
