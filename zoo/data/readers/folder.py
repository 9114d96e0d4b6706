"""Anything else: a folder, zip or tar of pictures, an npy, npz or prepared file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from zoo.data.readers import arrays
from zoo.data.readers.base import Part, ReadOptions, Source, first_shape, image_items
from zoo.data.trees import Tree, open_tree
from zoo.errors import UserError

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find images; parts are subfolders called train, val or test, else everything is "all".

    With `--split-file`, a text file of lines `NAME SPLIT`, parts are what it says.
    """
    if path.is_file() and path.suffix in (".npy", ".npz", ".h5", ".hdf5"):
        return arrays.open_source(path, options)
    tree = open_tree(path)
    names = tree.images()
    if not names:
        raise UserError(f"{path}: no images here; expected files ending in .png, .jpg, .webp and the like")
    groups = _listed(names, options.split_file, path) if options.split_file else _by_folder(names)
    shape = first_shape(tree, names, options)
    label = _labels(groups)
    parts = tuple(
        Part(part, len(members), lambda members=members: image_items(tree, members, options, shape[2], label=label))
        for part, members in groups.items()
        if members
    )
    return Source(parts, shape, _files(tree, options), labelled=label is not _no_label)


def _files(tree: Tree, options: ReadOptions) -> tuple[Path, ...]:
    listed = (options.split_file,) if options.split_file else ()
    return (tree.path, *listed) if tree.path.is_file() else listed


def _by_folder(names: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    rest = []
    for name in names:
        part = next((SPLITS[folder] for folder in PurePosixPath(name).parts[:-1] if folder in SPLITS), None)
        (rest if part is None else groups[part]).append(name)
    if any(groups.values()) and rest:
        raise UserError(f"{rest[0]}: lies outside the train/val/test folders; move it, or give --split-file")
    return groups if any(groups.values()) else {"all": rest}


def _listed(names: list[str], split_file: Path, source: Path) -> dict[str, list[str]]:
    if not split_file.is_file():
        raise UserError(f"--split-file {split_file}: no such file; expected lines of 'NAME train|val|test'")
    known = set(names)
    groups: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, line in enumerate(split_file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, _, split = line.strip().rpartition(" ")
        if split not in SPLITS or name.strip() not in known:
            raise UserError(f"{split_file}: line {number}, '{line.strip()}': expected a file of {source} and its split")
        groups[SPLITS[split]].append(name.strip())
    return groups


def _no_label(name: str) -> int | None:
    return None


def _labels(groups: dict[str, list[str]]):  # noqa: ANN202
    """Class of an image by its folder inside the part, if all images lie in class folders."""
    inside = {name: _class_folder(name) for members in groups.values() for name in members}
    folders = sorted(set(inside.values()))
    if "" in folders or len(folders) < 2:
        return _no_label
    order = {folder: number for number, folder in enumerate(folders)}
    return lambda name: order[inside[name]]


def _class_folder(name: str) -> str:
    parent = PurePosixPath(name).parent.name
    return "" if parent in SPLITS else parent
