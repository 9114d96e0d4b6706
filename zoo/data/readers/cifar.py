"""CIFAR-10: the python archive or the folder it unpacks to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.data.readers.base import Item, Part, ReadOptions, Source
from zoo.data.trees import Tree, open_tree
from zoo.data.unpickling import load_batch
from zoo.errors import UserError

BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
BATCH_IMAGES = 10_000


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find the six batches in a tar.gz or folder."""
    tree = open_tree(path)
    where = {PurePosixPath(name).name: name for name in tree.names}
    parts, files = [], []
    for part, batches in BATCHES.items():
        present = [where[batch] for batch in batches if batch in where]
        if present:
            counts = [len(_load(tree, name)[0]) for name in present]
            parts.append(Part(part, sum(counts), partial(_items, tree, present)))
            files += present
    if not parts:
        raise UserError(f"{path}: no CIFAR-10 batches here; expected data_batch_1 to data_batch_5 and test_batch")
    digested = (path,) if path.is_file() else tuple(path / name for name in files)
    return Source(tuple(parts), (32, 32, 3), digested, labelled=True)


def _load(tree: Tree, name: str) -> tuple[np.ndarray, list[int]]:
    """Rows (n, 3072) and labels of one batch."""
    where = f"{tree.path}: {name}"
    batch = load_batch(tree.read(name), where)
    rows, labels = batch.get("data"), batch.get("labels")
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
        raise UserError(f"{where}: expected 'data' of uint8 (n, 3072); get the official file again")
    if not isinstance(labels, list) or len(labels) != len(rows):
        raise UserError(f"{where}: expected one entry of 'labels' an image; get the official file again")
    return rows, labels


def _items(tree: Tree, names: list[str]) -> Iterator[Item]:
    for name in names:
        rows, labels = _load(tree, name)
        images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
        for image, label in zip(images, labels, strict=True):
            yield Item(image, int(label))
