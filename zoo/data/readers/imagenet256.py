"""ImageNet at full size: the official tars (one tar a class inside the training tar) or class folders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from zoo.data.readers.base import Item, Part, ReadOptions, Source, image_items, trees_below
from zoo.data.trees import Tree
from zoo.errors import UserError


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find training and validation images; the class is the folder's place in sorted order.

    The official validation tar has no class folders, so its labels are -1.
    """
    named: dict[str, list[tuple[Tree, list[str]]]] = {"train": [], "val": []}
    classes: set[str] = set()
    for tree in trees_below(path):
        for part in named:
            names = [name for name in tree.images() if _part(tree, name) == part]
            if names:
                named[part].append((tree, names))
                classes |= {folder for name in names if (folder := _class(name))}
    order = {folder: number for number, folder in enumerate(sorted(classes))}

    def items(groups: list[tuple[Tree, list[str]]]) -> Iterator[Item]:
        for tree, names in groups:
            yield from image_items(tree, names, options, label=lambda name: order.get(_class(name), -1))

    parts = [
        Part(part, sum(len(names) for _, names in groups), partial(items, groups))
        for part, groups in named.items()
        if groups
    ]
    if not parts:
        raise UserError(
            f"{path}: no images; expected ILSVRC2012_img_train.tar and _val.tar, or train/ and val/ folders"
        )
    assert options.size is not None
    files = tuple(tree.path for groups in named.values() for tree, _ in groups if tree.path.is_file())
    return Source(tuple(parts), (options.size, options.size, 3), files, labelled=bool(order))


def _part(tree: Tree, name: str) -> str:
    folders = PurePosixPath(f"{tree.path.name}/{name}".lower()).parts[:-1]
    return "val" if any("val" in folder for folder in folders) else "train"


def _class(name: str) -> str:
    """WordNet id of the folder an image is in, "" if it is in none."""
    parent = PurePosixPath(name).parent.name
    return parent if parent.startswith("n") and parent[1:].isdigit() else ""
