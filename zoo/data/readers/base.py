"""What a reader returns, and what readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.images import Decoded, Filter, decode, decode_resized
from zoo.data.trees import Tree, is_archive, open_tree
from zoo.errors import UserError

PNG_START = b"\x89PNG\r\n\x1a\n"


class Item(NamedTuple):
    """One image of a source."""

    image: np.ndarray  # (H, W, C) uint8
    label: int | None = None
    png: bytes | None = None  # the source's own PNG file, where it holds exactly these pixels
    notes: tuple[str, ...] = ()  # what had to be decided, counted over the source


@dataclass(frozen=True)
class Part:
    """Images that the source keeps together, such as its training half."""

    name: str  # "train", "val", "test" or "all"
    count: int
    items: Callable[[], Iterable[Item]]  # a fresh pass over the images in the source's order


@dataclass(frozen=True)
class Source:
    """A source that was found complete enough to be read."""

    parts: tuple[Part, ...]
    shape: tuple[int, int, int]  # (H, W, C)
    files: tuple[Path, ...] = ()  # what the digests in the prepared file are of
    labelled: bool = False
    variant_suffix: str = ""  # where the same set comes in forms with other pixels
    notes: tuple[str, ...] = ()  # what was left out or decided, one line each


@dataclass(frozen=True)
class ReadOptions:
    """What the user and the data set table say about reading."""

    shape: tuple[int, int, int] | None = None  # None = take the source's
    resolution: int | None = None
    crop: bool = True
    filter: Filter = "bilinear"
    split_file: Path | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    upright: bool = False  # turn pictures as their EXIF orientation says

    @property
    def size(self) -> int | None:
        """Side of the images to make, None = as they are."""
        return self.resolution or (self.shape[0] if self.shape else None)


def find_files(source: Path, names: Iterable[str], what: str) -> dict[str, Path]:
    """Those of the named files that lie in a folder (or are the source itself).

    Raises:
        UserError: none of them is there.
    """
    names = list(names)
    if source.is_file():
        found = {name: source for name in names if source.name == name}
    elif source.is_dir():
        found = {name: source / name for name in names if (source / name).is_file()}
    else:
        raise UserError(f"{source}: no such file or folder; give the folder with {', '.join(names)}")
    if not found:
        raise UserError(f"{source}: no {what} here; expected {', '.join(names)}")
    return found


def trees_below(source: Path) -> list[Tree]:
    """The archives of a folder if it holds any, else the folder itself; an archive is itself.

    A record file stands for a folder with nothing but it.
    """
    if source.is_file() and "tfrecord" in source.name:
        alone = open_tree(source.parent)
        alone.names = [source.name]
        return [alone]
    if source.is_dir():
        archives = sorted(path for path in source.iterdir() if path.is_file() and is_archive(path))
        if archives:
            return [open_tree(path) for path in archives]
    return [open_tree(source)]


def image_items(
    tree: Tree,
    names: list[str],
    options: ReadOptions,
    channels: int = 3,
    box: tuple[int, int, int, int] | None = None,
    label: Callable[[str], int | None] = lambda name: None,
) -> Iterator[Item]:
    """Decode image files one by one, resized where `options` ask for a size."""
    for name in names:
        content = tree.read(name)
        where = f"{tree.path}: {name}"
        if options.size is None:
            found = decode(content, where, channels, options.upright)
        else:
            found = decode_resized(
                content, where, options.size, options.filter, box, options.crop, channels, options.upright
            )
        yield Item(found.pixels, label(name), _same_png(content, found, channels), found.notes)


def _same_png(content: bytes, found: Decoded, channels: int) -> bytes | None:
    """The file itself if it is an 8-bit grey or RGB PNG whose samples are the image's."""
    if not found.as_stored or not content.startswith(PNG_START):
        return None
    depth, colour, interlaced = content[24], content[25], content[28]
    return content if depth == 8 and colour == (0 if channels == 1 else 2) and interlaced == 0 else None


def first_shape(tree: Tree, names: list[str], options: ReadOptions, channels: int = 3) -> tuple[int, int, int]:
    """Shape of the images that `image_items` will yield."""
    if options.size is not None:
        return options.size, options.size, channels
    found = decode(tree.read(names[0]), f"{tree.path}: {names[0]}", channels, options.upright)
    return found.pixels.shape[0], found.pixels.shape[1], channels
