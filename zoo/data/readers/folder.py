"""Anything else: a folder, zip or tar of pictures, an npy, npz or prepared file; told by content, not by ending."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from zoo.data.readers import arrays
from zoo.data.readers.base import Part, ReadOptions, Source, first_shape, image_items
from zoo.data.trees import Tree, open_tree
from zoo.errors import UserError
from zoo.imagefiles import kind_of_file

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LIKE_A_SPLIT = re.compile(r"(train|test|val|dev|eval|hold|query|gallery)", re.IGNORECASE)
Label = Callable[[str], int | None]


def open_source(path: Path, options: ReadOptions) -> Source:
    """Find images; parts are subfolders called train, val or test, else everything is "all".

    With `--split-file`, a text file of lines `NAME SPLIT`, parts are what it says. What is left out is noted.
    """
    if path.is_file() and arrays.is_arrays(path):
        return arrays.open_source(path, options)
    options = dataclasses.replace(options, upright=True)
    tree = open_tree(path)
    names = tree.pictures()
    if not names:
        left_out = "; ".join(f"{count:,} {reason}" for reason, count in tree.skipped.items())
        raise UserError(f"{path}: no pictures here ({left_out or kind_of_file(path) if path.is_file() else 'empty'})")
    groups = _listed(names, options.split_file, path) if options.split_file else _by_folder(names)
    shape = first_shape(tree, next(members for members in groups.values() if members), options)
    label, notes = _labels(groups)
    listed = sum(map(len, groups.values()))
    if listed < len(names):
        notes.append(f"{len(names) - listed:,} picture(s) that the split file does not name, left out")
    parts = tuple(
        Part(part, len(members), partial(image_items, tree, members, options, shape[2], label=label))
        for part, members in groups.items()
        if members
    )
    notes += [f"{count:,} {reason}" for reason, count in tree.skipped.items()]
    return Source(parts, shape, _files(tree, options), labelled=label is not _no_label, notes=tuple(notes))


def _files(tree: Tree, options: ReadOptions) -> tuple[Path, ...]:
    listed = (options.split_file,) if options.split_file else ()
    return (tree.path, *listed) if tree.path.is_file() else listed


def _split_of(name: str) -> str | None:
    """Split that a picture's folders name.

    Raises:
        UserError: they name two.
    """
    named = {SPLITS[folder.lower()] for folder in PurePosixPath(name).parts[:-1] if folder.lower() in SPLITS}
    if len(named) > 1:
        raise UserError(f"{name}: its folders name two splits; rename one, or give --split-file")
    return named.pop() if named else None


def _by_folder(names: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    rest: list[str] = []
    for name in names:
        part = _split_of(name)
        (rest if part is None else groups[part]).append(name)
    if any(groups.values()) and rest:
        raise UserError(f"{rest[0]}: lies outside the train/val/test folders; move it, or give --split-file")
    if rest:
        folders = {folder for name in rest for folder in PurePosixPath(name).parts[:-1]}
        odd = sorted(folder for folder in folders if _LIKE_A_SPLIT.match(folder))
        if odd:
            raise UserError(
                f"folder '{odd[0]}': named almost like a split; rename it to train, val or test (or to something else "
                "if it is a class), or give --split-file"
            )
    return groups if any(groups.values()) else {"all": rest}


def _listed(names: list[str], split_file: Path, source: Path) -> dict[str, list[str]]:
    if not split_file.is_file():
        raise UserError(f"--split-file {split_file}: no such file; expected lines of 'NAME train|val|test'")
    try:
        lines = split_file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"--split-file {split_file}: not text in UTF-8; save it so") from error
    left = set(names)
    groups: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, split = line.strip().rpartition(" ")
        if split not in SPLITS or name.strip() not in left:
            raise UserError(
                f"{split_file}: line {number}, '{line.strip()}': expected a picture of {source} (each one once) and "
                "its split"
            )
        left.remove(name.strip())
        groups[SPLITS[split]].append(name.strip())
    if not any(groups.values()):
        raise UserError(f"--split-file {split_file}: names no picture; expected lines of 'NAME train|val|test'")
    return groups


def _no_label(name: str) -> int | None:
    return None


def _labels(groups: dict[str, list[str]]) -> tuple[Label, list[str]]:
    """Class of an image by its folders inside the part, if all images lie in class folders; and what was decided."""
    inside = {name: _class_folder(name) for members in groups.values() for name in members}
    folders = sorted(set(inside.values()))
    if len(folders) < 2:
        return _no_label, []
    if "" in folders:
        count = sum(folder == "" for folder in inside.values())
        return _no_label, [f"{count:,} picture(s) lie in no class folder, so no labels are taken from folders"]
    order = {folder: number for number, folder in enumerate(folders)}
    shown = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    return lambda name: order[inside[name]], [f"{len(folders):,} folders taken as classes: {shown}"]


def _class_folder(name: str) -> str:
    """Folders of a picture without those that name its split."""
    return "/".join(folder for folder in PurePosixPath(name).parts[:-1] if folder.lower() not in SPLITS)
