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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.errors import UserError, closest

FORMAT = "zoo-images"
VERSION = 1
SEAL_BYTES = 512  # user block of the HDF5 file
SEAL_START = b"zoo-images 1\nsha256 "  # followed by the digest of everything behind the seal
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
    with open_packed(path) as file, _damage_is_a_user_error(path):
        splits = {}
        for name in SPLITS:
            if name in file:
                group = file[name]
                shape = group["images"].shape if "images" in group else group.attrs["shape"]
                shape = tuple(int(side) for side in shape)
                splits[name] = SplitInfo(shape, str(group.attrs["sha256"]), "labels" in group)
        attributes = {key: value.item() if hasattr(value, "item") else value for key, value in file.attrs.items()}
        return FileInfo(
            Path(path), attributes["name"], attributes["variant"], attributes["encoding"], splits, attributes
        )


@contextlib.contextmanager
def _damage_is_a_user_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """What h5py raises on damaged structures becomes one line."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged; check it with `zoo data verify`, prepare or copy it again") from error


def open_packed(path: str | os.PathLike[str]) -> h5py.File:
    """Open a prepared file for reading after checking that it is whole and of our format.

    Raises:
        UserError: missing, damaged, or not one of our files.
    """
    read_seal(path)
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UserError(f"{path}: damaged or not an HDF5 file; prepare it again with `zoo data prepare`") from error
    return file


def read_seal(path: str | os.PathLike[str]) -> str:
    """Digest in a file's seal; having one shows that its writer came to the end.

    Raises:
        UserError: missing file, or no seal of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such data file; make it with `zoo data prepare`, or check the path")
    with open(path, "rb") as file:
        start = file.read(SEAL_BYTES)
    if not start.startswith(SEAL_START) or len(start) < SEAL_BYTES:
        raise UserError(f"{path}: not a file of `zoo data prepare` (or one cut short); prepare it with that command")
    return start[len(SEAL_START) :].decode("ascii", "replace").strip()


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
        self._process: int | None = None
        self._file: h5py.File | None = None
        self._pixels: np.ndarray | None = None
        self._labels: np.ndarray | None = None

    def __len__(self) -> int:
        return self.num_images

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None, "_file": None, "_pixels": None, "_labels": None}

    def images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Whole images, (n, H, W, C) uint8."""
        self._open()
        if self._pixels is not None:
            return self._pixels[np.asarray(indices)]
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
        return self._labels[np.asarray(indices)]

    def _open(self) -> None:
        """Open the file once in each process."""
        if self._process == os.getpid():
            return
        file = open_packed(self.path)
        self._pixels = None
        with _damage_is_a_user_error(self.path):
            group = file[self.split_name]
            if self.encoding == "raw":
                self._pixels = self._map(group["images"])
            self._labels = group["labels"][:].astype(np.int64) if "labels" in group else None
        self._file, self._process = file, os.getpid()
        if isinstance(self._pixels, np.ndarray):
            file.close()  # the map is all that is needed

    def _map(self, images: h5py.Dataset) -> np.ndarray:
        """Memory-map contiguous pixels past h5py; fall back on reading through it for other layouts."""
        offset = images.id.get_offset()
        if offset is None:  # chunked by another writer
            return _Rows(images)  # type: ignore[return-value]
        try:
            # as a plain array: the subclass costs some microseconds at each access
            return np.memmap(self.path, np.uint8, "r", offset, images.shape).view(np.ndarray)
        except ValueError as error:
            raise UserError(f"{self.path}: cut short; prepare it again with `zoo data prepare`") from error

    def _decode(self, index: int) -> np.ndarray:
        """One stored PNG, (H, W, C) uint8."""
        from PIL import Image

        assert self._file is not None
        with _damage_is_a_user_error(self.path):
            group = self._file[self.split_name]
            start, stop = group["offsets"][index : index + 2]
            with Image.open(io.BytesIO(group["bytes"][start:stop].tobytes())) as image:
                return np.asarray(image).reshape(self.height, self.width, self.channels)


class _Rows:
    """Array-like view of a chunked dataset that reads row by row."""

    def __init__(self, images: h5py.Dataset) -> None:
        self._images = images

    def __getitem__(self, key: Any) -> np.ndarray:
        if np.ndim(key) == 0:
            return self._images[int(key)]
        return np.stack([self._images[int(index)] for index in key])
