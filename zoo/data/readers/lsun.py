"""LSUN: the official LMDB folders or their zips (optional extra `data`), or exported folders of pictures."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from zoo.data.images import decode_resized
from zoo.data.readers import lmdb_process
from zoo.data.readers.base import Item, Part, ReadOptions, Source, image_items
from zoo.data.trees import open_tree, unpack
from zoo.errors import UserError
from zoo.files import writing


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
            parts.append(Part(part, len(names), partial(image_items, tree, names, options)))
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
    """Unpack a zip beside itself for as long as the process runs; LMDB maps real files.

    What an earlier process left when it was killed is removed.
    """
    if archive not in _KEPT:
        beside = archive.parent if os.access(archive.parent, os.W_OK) else Path(tempfile.gettempdir())
        for stale in beside.glob(".zoo-lsun-*"):
            if not _alive(stale.name.split("-")[2]):
                shutil.rmtree(stale, ignore_errors=True)
        _KEPT[archive] = tempfile.TemporaryDirectory(prefix=f".zoo-lsun-{os.getpid()}-", dir=beside)
    folder = Path(_KEPT[archive].name)
    with writing(folder):
        for _ in unpack(open_tree(archive), folder):
            pass
    found = next(iter(folder.rglob("data.mdb")), None)
    if found is None:
        raise UserError(f"{archive}: no data.mdb inside; get the official zip again")
    return found.parent


def _alive(process: str) -> bool:
    """Whether a process of this number runs."""
    return process.isdigit() and Path(f"/proc/{process}").exists()


def _lmdb(folder: Path, part: str, options: ReadOptions) -> Part:
    size = options.size
    assert size is not None
    count = int.from_bytes(next(iter(_stored(folder, only_count=True)), b""), "big")

    def items() -> Iterator[Item]:
        for number, content in enumerate(itertools.islice(_stored(folder), 1, None)):
            found = decode_resized(content, f"{folder}: image {number}", size, options.filter)
            yield Item(found.pixels, notes=found.notes)

    return Part(part, count, items)


def _stored(folder: Path, only_count: bool = False) -> Iterator[bytes]:
    """The number of entries, then their values in order of the keys, read by a process of their own.

    LMDB maps the file and trusts it: damage ends the process that reads, which must not be this one.
    """
    command = [sys.executable, lmdb_process.__file__, str(folder), "count" if only_count else "all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while len(head := process.stdout.read(8)) == 8:
                yield process.stdout.read(int.from_bytes(head, "big"))
        finally:
            process.stdout.close()
            said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            code = process.wait()
    if code == lmdb_process.NO_LMDB:
        raise UserError(
            f"{folder}: reading LMDB needs the package lmdb; run `pip install likelihood-zoo[data]`, "
            "or export the images to a folder"
        )
    if code != 0:
        raise UserError(f"{folder}: damaged LMDB ({said[-1] if said else f'signal {-code}'}); get it again")
