"""MNIST: the four idx files, gzipped or not, and Larochelle's three binarised text files."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from zoo.data.readers.base import Item, Part, ReadOptions, Source, find_files
from zoo.errors import UserError

IDX_PARTS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
AMAT_PARTS = {
    "binarized_mnist_train.amat": "train",
    "binarized_mnist_valid.amat": "val",
    "binarized_mnist_test.amat": "test",
}
SIDE = 28
AMAT_LINE = 2 * SIDE * SIDE  # digit and blank (or line end) for each pixel


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find idx or amat files in a folder."""
    if path.name.endswith(".amat") or (path.is_dir() and any(path.glob("*.amat"))):
        return _amat(path)
    return _idx(path)


def _idx(path: Path) -> Source:
    folder = path if path.is_dir() else path.parent
    names = [name + suffix for pair in IDX_PARTS.values() for name in pair for suffix in (".gz", "")]
    found = find_files(folder, names, "MNIST idx file")
    parts, files, shape = [], [], None
    labelled = False
    for part, (image_name, label_name) in IDX_PARTS.items():
        images = found.get(image_name + ".gz") or found.get(image_name)
        labels = found.get(label_name + ".gz") or found.get(label_name)
        if images is None:
            continue
        with _open(images) as stream:
            count, *sides = _header(stream, images, dimensions=3)
        if labels is not None:
            with _open(labels) as stream:
                (label_count,) = _header(stream, labels, dimensions=1)
            if label_count != count:
                raise UserError(f"{labels}: {label_count} labels for {count} images; get both files again")
        parts.append(Part(part, count, lambda images=images, labels=labels: _idx_items(images, labels)))
        files += [images] if labels is None else [images, labels]
        labelled |= labels is not None
        shape = (*sides, 1)
    if shape is None:
        raise UserError(f"{folder}: labels but no images; expected train-images-idx3-ubyte(.gz) and the like")
    return Source(tuple(parts), cast(tuple[int, int, int], shape), tuple(files), labelled)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb"))


def _header(stream: IO[bytes], path: Path, dimensions: int) -> list[int]:
    """Sizes in an idx header: two zeros, type 8 (uint8), number of dimensions, big-endian 32-bit sizes."""
    try:
        head = stream.read(4 + 4 * dimensions)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: damaged gzip file; get it again") from error
    if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
        raise UserError(f"{path}: not an idx file of {dimensions}-dimensional bytes; get the official file")
    return [int.from_bytes(head[at : at + 4]) for at in range(4, len(head), 4)]


def _idx_items(images: Path, labels: Path | None) -> Iterator[Item]:
    with _open(images) as stream:
        count, height, width = _header(stream, images, dimensions=3)
        classes = None
        if labels is not None:
            with _open(labels) as label_stream:
                _header(label_stream, labels, dimensions=1)
                classes = label_stream.read(count)
        for row in range(count):
            try:
                content = stream.read(height * width)
            except (OSError, EOFError) as error:
                raise UserError(f"{images}: damaged gzip file; get it again") from error
            if len(content) < height * width:
                raise UserError(f"{images}: ends after {row} of {count} images; get it again")
            image = np.frombuffer(content, np.uint8).reshape(height, width, 1)
            yield Item(image, None if classes is None else classes[row])


def _amat(path: Path) -> Source:
    found = find_files(path, AMAT_PARTS, "binarised MNIST file")
    parts = []
    for name, file in found.items():
        count, rest = divmod(file.stat().st_size, AMAT_LINE)
        if rest:
            raise UserError(f"{file}: not lines of {SIDE * SIDE} digits (one of them is cut short); get it again")
        parts.append(Part(AMAT_PARTS[name], count, lambda file=file: _amat_items(file)))
    return Source(tuple(parts), (SIDE, SIDE, 1), tuple(found.values()))


def _amat_items(path: Path) -> Iterator[Item]:
    with open(path, "rb") as file:
        row = 0
        while line := file.read(AMAT_LINE):
            digits = np.frombuffer(line, np.uint8)[::2] - ord("0")
            if len(line) < AMAT_LINE or not line.endswith(b"\n") or digits.max() > 1:
                raise UserError(f"{path}: line {row + 1} is not {SIDE * SIDE} zeros and ones; get it again")
            yield Item(digits.reshape(SIDE, SIDE, 1) * np.uint8(255))
            row += 1
