"""One reader for each official form of a source; all yield uint8 (H, W, C) images, part by part, as a stream."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from zoo.data.readers.base import Item, Part, ReadOptions, Source
from zoo.errors import reading

__all__ = ["Item", "Part", "ReadOptions", "Source", "open_source"]


def open_source(reader: str | Callable[[Path, ReadOptions], Source], path: Path, options: ReadOptions) -> Source:
    """Find the parts of a source and count them; nothing is decoded yet.

    Args:
        reader: name of a module in this package, or a function of its own.
        path: archive or folder.
        options: size, filter and the like.
    """
    read: Callable[[Path, ReadOptions], Source]
    read = importlib.import_module(f"{__name__}.{reader}").open_source if isinstance(reader, str) else reader
    with reading(path):
        return read(path, options)
