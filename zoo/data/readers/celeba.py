"""CelebA: aligned pictures and the official partition file."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from zoo.data.readers.base import Part, ReadOptions, Source, image_items
from zoo.data.trees import Tree, is_archive, open_tree
from zoo.errors import UserError

BOX = (15, 40, 163, 188)  # left, top, right, bottom of the 178x218 pictures: 148x148
PARTITION = "list_eval_partition.txt"
PART_NAMES = ("train", "val", "test")


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find the pictures (zip or folder) and the partition file beside or among them."""
    folder = path if path.is_dir() else path.parent
    partition = next((file for file in (folder / PARTITION, *folder.rglob(PARTITION)) if file.is_file()), None)
    if partition is None:
        raise UserError(f"{folder}: no {PARTITION}; get it from the data set's page and put it beside the pictures")
    archives = sorted(file for file in folder.iterdir() if is_archive(file))
    tree = open_tree(path if path.is_file() else (archives[0] if archives else path))
    where = {PurePosixPath(name).name: name for name in tree.images()}
    if not where:
        raise UserError(f"{tree.path}: no pictures; expected img_align_celeba.zip or the folder it unpacks to")
    names: dict[str, list[str]] = {part: [] for part in PART_NAMES}
    for number, line in enumerate(partition.read_text().splitlines(), 1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{partition}: line {number} is not 'NAME 0|1|2'; get the official file again")
        if words[0] in where:
            names[PART_NAMES[int(words[1])]].append(where[words[0]])
    return _source(tree, names, partition, options)


def _source(tree: Tree, names: dict[str, list[str]], partition: Path, options: ReadOptions) -> Source:
    parts = tuple(
        Part(part, len(members), partial(image_items, tree, members, options, box=BOX))
        for part, members in names.items()
        if members
    )
    if not parts:
        raise UserError(f"{partition}: names none of the pictures in {tree.path}; get both from the same place")
    assert options.size is not None
    files = (tree.path, partition) if tree.path.is_file() else (partition,)
    return Source(parts, (options.size, options.size, 3), files)
