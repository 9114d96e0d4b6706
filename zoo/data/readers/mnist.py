"""MNIST and the sets in its form: four idx files, gzipped or not, and Larochelle's three binarised text files."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np

from zoo.data.readers.base import Item, Part, ReadOptions, Source, find_files
from zoo.data.trees import Tree, is_archive, open_tree
from zoo.errors import UserError

GZIP_START = b"\x1f\x8b"
MAX_SIDE = 4096  # of an image
MAX_RATIO = 1100  # how much more than its own size gzip can unfold to
AMAT_PARTS = {
    "binarized_mnist_train.amat": "train",
    "binarized_mnist_valid.amat": "val",
    "binarized_mnist_test.amat": "test",
}
SIDE = 28
AMAT_LINE = 2 * SIDE * SIDE  # digit and blank (or line end) for each pixel


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find idx or amat files in a folder, or idx files in the archive that EMNIST comes in."""
    if path.name.endswith(".amat") or (path.is_dir() and any(path.glob("*.amat"))):
        return _amat(path)
    prefix, archive = str(options.extra.get("prefix", "")), str(options.extra.get("archive", ""))
    return _idx(_idx_tree(path, archive), prefix)


def _idx_tree(path: Path, archive: str) -> Tree:
    """The folder with the files, or the archive that holds them; one of the files stands for its folder."""
    if archive and (path / archive).is_file():
        return open_tree(path / archive)
    return open_tree(path.parent if path.is_file() and not is_archive(path) else path)


def _idx(tree: Tree, prefix: str) -> Source:
    found = _idx_files(tree, prefix)
    parts, files, shape = [], [], None
    labelled = False
    for part, images, labels in found:
        count, *sides = _sizes(tree, images, dimensions=3)
        if count * math.prod(sides) > MAX_RATIO * tree.size(images):
            raise UserError(f"{tree.path / images}: too short for the {count:,} images it claims; get it again")
        if labels is not None:
            (label_count,) = _sizes(tree, labels, dimensions=1)
            if label_count != count:
                raise UserError(f"{tree.path / labels}: {label_count} labels for {count} images; get both files again")
        parts.append(Part(part, count, partial(_idx_items, tree, images, labels)))
        files += [images] if labels is None else [images, labels]
        labelled |= labels is not None
        shape = (*sides, 1)
    paths = (tree.path,) if tree.path.is_file() else tuple(tree.path / name for name in files)
    return Source(tuple(parts), cast(tuple[int, int, int], shape), paths, labelled)


def _idx_files(tree: Tree, prefix: str) -> list[tuple[str, str, str | None]]:
    """(part, images, labels) of the parts whose images are there.

    Raises:
        UserError: no images, or the same file in two places.
    """
    by_name: dict[str, str] = {}
    for name in tree.matching(lambda name: "-idx" in name):
        stem = PurePosixPath(name).name.removesuffix(".gz")
        if PurePosixPath(by_name.setdefault(stem, name)).parent != PurePosixPath(name).parent:
            raise UserError(f"{tree.path}: {stem} is there twice, as {by_name[stem]} and {name}; give one folder")
    found = []
    for part, stem in (("train", "train"), ("test", "test" if prefix else "t10k")):
        images, labels = (by_name.get(f"{prefix}{stem}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images is not None:
            found.append((part, images, labels))
    if not found:
        wanted = f"{prefix}train-images-idx3-ubyte(.gz) and the like"
        raise UserError(f"{tree.path}: no file of images in idx form here; expected {wanted}")
    return found


@contextlib.contextmanager
def _opened(tree: Tree, name: str) -> Iterator[IO[bytes]]:
    """The file's content, unpacked if it is gzipped, whatever its name says."""
    try:
        with tree.open(name) as stream:
            packed = stream.read(2) == GZIP_START
            stream.seek(0)
            yield cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if packed else stream
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{tree.path / name}: damaged gzip file ({error}); get it again") from error


def _sizes(tree: Tree, name: str, dimensions: int) -> list[int]:
    with _opened(tree, name) as stream:
        return _header(stream, tree.path / name, dimensions)


def _header(stream: IO[bytes], path: Path, dimensions: int) -> list[int]:
    """Sizes in an idx header: two zeros, type 8 (uint8), number of dimensions, big-endian 32-bit sizes."""
    head = stream.read(4 + 4 * dimensions)
    if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
        raise UserError(f"{path}: not an idx file of {dimensions}-dimensional bytes; get the official file")
    sizes = [int.from_bytes(head[at : at + 4]) for at in range(4, len(head), 4)]
    if min(sizes) < 1 or max(sizes[1:], default=0) > MAX_SIDE:
        raise UserError(f"{path}: claims the sizes {sizes}; damaged, get it again")
    return sizes


def _idx_items(tree: Tree, images: str, labels: str | None) -> Iterator[Item]:
    classes = _labels(tree, labels)
    with _opened(tree, images) as stream:
        count, height, width = _header(stream, tree.path / images, dimensions=3)
        for row in range(count):
            content = stream.read(height * width)
            if len(content) < height * width:
                raise UserError(f"{tree.path / images}: ends after {row} of {count} images; get it again")
            image = np.frombuffer(content, np.uint8).reshape(height, width, 1)
            yield Item(image, next(classes))
        _check_end(stream, tree.path / images)
    next(classes, None)


def _labels(tree: Tree, name: str | None) -> Iterator[int | None]:
    """The labels in order; None for ever where there is no file of them."""
    if name is None:
        yield from itertools.repeat(None)
        return
    with _opened(tree, name) as stream:
        (count,) = _header(stream, tree.path / name, dimensions=1)
        for row in range(count):
            content = stream.read(1)
            if not content:
                raise UserError(f"{tree.path / name}: ends after {row} of {count} labels; get it again")
            yield content[0]
        _check_end(stream, tree.path / name)


def _check_end(stream: IO[bytes], path: Path) -> None:
    """Nothing follows; gzip compares its checksum when it comes to the end."""
    if stream.read(1):
        raise UserError(f"{path}: goes on after the images or labels it claims; get it again")


def _amat(path: Path) -> Source:
    found = find_files(path, AMAT_PARTS, "binarised MNIST file")
    parts = []
    for name, file in found.items():
        count, rest = divmod(file.stat().st_size, AMAT_LINE)
        if rest:
            raise UserError(f"{file}: not lines of {SIDE * SIDE} digits (one of them is cut short); get it again")
        parts.append(Part(AMAT_PARTS[name], count, partial(_amat_items, file)))
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
