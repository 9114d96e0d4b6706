"""LSUN: the official LMDB folders or their zips (optional extra `data`), or exported folders of pictures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.data.images import decode_resized
from zoo.data.readers.base import Item, Part, ReadOptions, Source, image_items
from zoo.data.trees import open_tree, unpack
from zoo.errors import UserError


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find CATEGORY_train and CATEGORY_val, as folders or zips."""
    category = str(options.extra["category"])
    parts, files = [], []
    for part in ("train", "val"):
        found = _find(path, f"{category}_{part}")
        if found is None:
            continue
        if found.is_file():
            files.append(found)
            found = _unpacked(found)
        if (found / "data.mdb").is_file():
            parts.append(_lmdb(found, part, options))
        else:
            tree = open_tree(found)
            names = tree.images()
            parts.append(Part(part, len(names), lambda tree=tree, names=names: image_items(tree, names, options)))
    if not parts:
        wanted = f"{category}_train_lmdb and {category}_val_lmdb (folders or zips), or exported folders of these names"
        raise UserError(f"{path}: not an LSUN source; expected {wanted}")
    assert options.size is not None
    return Source(tuple(parts), (options.size, options.size, 3), tuple(files))


def _find(path: Path, stem: str) -> Path | None:
    """The folder or zip of one part: the source itself, or below it."""
    names = (f"{stem}_lmdb", f"{stem}_lmdb.zip", stem)
    if path.name in names:
        return path
    return next((path / name for name in names if (path / name).exists()), None)


_KEPT: dict[Path, tempfile.TemporaryDirectory[str]] = {}


def _unpacked(archive: Path) -> Path:
    """Unpack a zip beside itself for as long as the process runs; LMDB maps real files."""
    if archive not in _KEPT:
        beside = archive.parent if os.access(archive.parent, os.W_OK) else None
        _KEPT[archive] = tempfile.TemporaryDirectory(prefix=".zoo-lsun-", dir=beside)
    folder = Path(_KEPT[archive].name)
    for _ in unpack(open_tree(archive), folder):
        pass
    found = next(iter(folder.rglob("data.mdb")), None)
    if found is None:
        raise UserError(f"{archive}: no data.mdb inside; get the official zip again")
    return found.parent


def _lmdb(folder: Path, part: str, options: ReadOptions) -> Part:
    with _environment(folder) as environment, environment.begin() as transaction:
        count = transaction.stat()["entries"]

    def items() -> Iterator[Item]:
        with _environment(folder) as environment, environment.begin() as transaction:
            for key, content in transaction.cursor():
                name = f"{folder}: {key.decode('ascii', 'replace')}"
                assert options.size is not None
                found = decode_resized(content, name, options.size, options.filter)
                yield Item(found.pixels, notes=found.notes)

    return Part(part, count, items)


def _environment(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise UserError(
            f"{folder}: reading LMDB needs the package lmdb; run `pip install likelihood-zoo[data]`, "
            "or export the images to a folder"
        ) from error
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, max_readers=1)
    except lmdb.Error as error:
        raise UserError(f"{folder}: damaged LMDB ({error}); get it again") from error
