"""Downsampled ImageNet in both variants, which never mix.

small (van den Oord et al. 2016): tars or folders of PNG files without labels, VDVAE's npy arrays, Glow's records.
box (Chrabaszcz et al. 2017): npz files or pickles, in the official zips or unpacked, with labels counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from zoo.data.readers.arrays import array_items, image_array, label_array, layout, open_npy, open_npz, spooled
from zoo.data.readers.base import Item, Part, ReadOptions, Source, image_items, trees_below
from zoo.data.readers.tfrecord import count_records, find_records, record_items
from zoo.data.trees import Tree, open_tree
from zoo.data.unpickling import load_batch
from zoo.errors import UserError

Pass = Callable[[], Iterator[Item]]
AS_PUBLISHED = ReadOptions()  # no resizing
PICKLE_LIMIT = 2 << 30  # a tenth of ImageNet 64x64 has 1.6 GB


@dataclass(frozen=True)
class _Piece:
    """Images found in one file or folder of a part."""

    part: str
    count: int
    items: Pass
    file: Path


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find the parts of either variant."""
    flavour = options.extra["flavour"]
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the official archives' folder, or one of them")
    pieces = _small(path, options) if flavour == "small" else _box(path, options)
    if not pieces:
        expected = "PNG tars or folders, npy or tfrecords" if flavour == "small" else "npz files, batches or their zips"
        raise UserError(f"{path}: nothing of the {flavour} variant here; expected {expected}")
    parts = []
    for name in ("train", "val"):
        mine = [piece for piece in pieces if piece.part == name]
        if mine:
            parts.append(Part(name, sum(piece.count for piece in mine), partial(_chain, mine)))
    assert options.shape is not None
    files = tuple(dict.fromkeys(piece.file for piece in pieces if piece.file.is_file()))
    return Source(tuple(parts), options.shape, files, labelled=flavour == "box")


def _chain(pieces: list[_Piece]) -> Iterator[Item]:
    for piece in pieces:
        yield from piece.items()


def _part(name: str) -> str:
    """Validation files are named so (valid_32x32.tar, val_data, Imagenet32_val_npz.zip); all others are training."""
    return "val" if "val" in name.lower() else "train"


def _small(path: Path, options: ReadOptions) -> list[_Piece]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    arrays = [file for file in files if file.suffix == ".npy"]
    if arrays:
        opened = [(file, open_npy(file)) for file in arrays]
        return [_Piece(_part(f.name), a.shape[0], partial(array_items, a), f) for f, a in opened]
    if path.is_file() and path.suffix == ".npz":
        return _npz(path, str(path), path, from_one=False)
    trees = trees_below(path)
    records = find_records(path, trees)
    if records:
        return [_Piece(part, count_records(m), partial(record_items, m), m.file) for part, m in records]
    pieces = []
    for tree in trees:
        by_part: dict[str, list[str]] = {}
        for name in tree.images():
            key = name if tree.path.is_dir() and "/" in name else tree.path.name
            by_part.setdefault(_part(str(PurePosixPath(key).parent) if "/" in key else key), []).append(name)
        for part, names in by_part.items():
            pieces.append(_Piece(part, len(names), partial(image_items, tree, names, AS_PUBLISHED), tree.path))
    return pieces


def _box(path: Path, options: ReadOptions) -> list[_Piece]:
    if path.is_file() and path.suffix == ".npz":
        return _npz(path, str(path), path, from_one=True)
    pieces = []
    for tree in trees_below(path) if path.is_dir() else [open_tree(path)]:
        for name in tree.names:
            last = PurePosixPath(name).name
            part = _part(f"{tree.path.name}/{last}" if tree.path.is_file() else last)
            if last.endswith(".npz"):
                pieces += _npz(tree, name, tree.path, from_one=True, part=part)
            elif last.startswith(("train_data", "val_data")) and "." not in last:
                pieces.append(_pickled(tree, name, part))
    return pieces


def _npz(
    where: Path | Tree, name: str, file: Path, from_one: bool, part: str | None = None
) -> list[_Piece]:  # fmt: skip
    """One npz file on disk or in an archive; opened anew for each pass, so that few files are open at once."""

    def arrays() -> dict[str, Any]:
        return open_npz(
            where if isinstance(where, Path) else spooled(where.open(name), where.size(name)), f"{file}: {name}"
        )

    images = image_array(arrays(), f"{file}: {name}")
    layout(images)

    def items() -> Iterator[Item]:
        opened = arrays()
        labels = label_array(opened, images.shape[0])
        shifted = labels - 1 if labels is not None and from_one else labels
        yield from array_items(image_array(opened, name), shifted)

    return [_Piece(part or _part(Path(name).name), images.shape[0], items, file)]


def _pickled(tree: Tree, name: str, part: str) -> _Piece:
    def load() -> tuple[np.ndarray, list[int]]:
        batch = load_batch(tree.read(name, PICKLE_LIMIT), f"{tree.path}: {name}")
        rows: Any = batch.get("data")
        labels = batch.get("labels")
        good = isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2
        if not good or not isinstance(labels, list) or len(labels) != len(rows):
            raise UserError(f"{tree.path}: {name}: expected uint8 'data' and 'labels'; get the official file again")
        return rows, labels

    def items() -> Iterator[Item]:
        rows, labels = load()
        side = round((rows.shape[1] / 3) ** 0.5)
        images = rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)  # (n, R, R, 3)
        yield from (Item(image, int(label) - 1) for image, label in zip(images, labels, strict=True))

    file = tree.path / name if tree.path.is_dir() else tree.path
    return _Piece(part, len(load()[0]), items, file)
