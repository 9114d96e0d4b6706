"""CelebA-HQ and FFHQ: folders, zips or tars of pictures, one array, or Glow's records."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from zoo.data.readers.arrays import array_items, layout, open_npy
from zoo.data.readers.base import Item, Part, ReadOptions, Source, image_items, trees_below
from zoo.data.readers.tfrecord import Records, count_records, find_records, record_items
from zoo.errors import UserError


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find the images; parts only where the source has them (Glow's records)."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the archive, the folder it unpacks to, or the npy file")
    files = [path] if path.is_file() else sorted(path.iterdir())
    arrays = [file for file in files if file.suffix == ".npy"]
    if arrays:
        return _array(arrays[0])
    opened = trees_below(path)
    records = find_records(path, opened)
    if records:
        return _glow(records, options)
    trees = [(tree, names) for tree in opened if (names := tree.images())]
    if not trees:
        raise UserError(f"{path}: no images; expected PNG or JPG files, a zip or tar of them, an npy file or tfrecords")

    def items() -> Iterator[Item]:
        for tree, names in trees:
            yield from image_items(tree, names, options)

    assert options.size is not None
    archives = tuple(tree.path for tree, _ in trees if tree.path.is_file())
    part = Part("all", sum(len(names) for _, names in trees), items)
    # resized here, not with the code that made the published arrays of 256 pixels
    suffix = "-from-pictures" if options.size < 1024 else ""
    return Source((part,), (options.size, options.size, 3), archives, variant_suffix=suffix)


def _array(path: Path) -> Source:
    array = open_npy(path)
    shape, _ = layout(array)
    return Source((Part("all", array.shape[0], lambda: array_items(array)),), shape, (path,))


def _glow(records: list[tuple[str, Records]], options: ReadOptions) -> Source:
    def items(members: list[Records]) -> Iterator[Item]:
        for member in members:
            yield from (Item(item.image) for item in record_items(member))

    groups = {name: [member for part, member in records if part == name] for name in ("train", "val")}
    parts = tuple(
        Part(name, sum(map(count_records, members)), partial(items, members))
        for name, members in groups.items()
        if members
    )
    assert options.size is not None
    files = dict.fromkeys(member.file for _, member in records)
    return Source(parts, (options.size, options.size, 3), tuple(files))
