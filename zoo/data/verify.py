"""`verify` and `statistics`: is a prepared file still what was written, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.packed import FileInfo, PackedSplit, describe
from zoo.data.seals import check_seal
from zoo.errors import UserError
from zoo.pictures import save_grid

Report = Callable[[str, int, int], None]
CHUNK = 256  # images


def verify(path: Path, report: Report = lambda what, done, total: None) -> FileInfo:
    """Re-read a prepared file: the seal over all its bytes, then the digest of every split's decoded pixels.

    Raises:
        UserError: any byte differs from what was written.
    """
    check_seal(path, report, always=True)
    info = describe(path)
    for name, split in info.splits.items():
        pixels = hashlib.sha256()
        for images in chunks(path, name, report):
            pixels.update(np.ascontiguousarray(images).data)
        if pixels.hexdigest() != split.sha256:
            raise UserError(f"{path}: pixels of split '{name}' differ from their digest; prepare it again")
    return info


def chunks(path: Path, split: str, report: Report = lambda what, done, total: None) -> Iterator[np.ndarray]:
    """Images of a split in order, (n, H, W, C) at a time."""
    images = PackedSplit(path, split)
    step = max(1, min(CHUNK, (64 << 20) // (images.height * images.width * images.channels)))
    for start in range(0, len(images), step):
        stop = min(start + step, len(images))
        yield images.images(np.arange(start, stop))
        report(f"reading {split}", stop, len(images))


@dataclass(frozen=True)
class Statistics:
    """Of one split; pixels on the scale 0..255."""

    images: int
    mean: tuple[float, ...]  # per channel
    variance: tuple[float, ...]  # per channel, over images and positions
    classes: dict[int, int]  # label -> images; empty without labels

    @property
    def deviation(self) -> tuple[float, ...]:
        """Standard deviation per channel."""
        return tuple(value**0.5 for value in self.variance)


def statistics(path: Path, split: str, report: Report = lambda what, done, total: None) -> Statistics:
    """Mean, variance and class balance, in one pass with exact integer sums."""
    images = PackedSplit(path, split)
    total = np.zeros(images.channels, object)
    squares = np.zeros(images.channels, object)
    for block in chunks(path, split, report):
        values = block.reshape(-1, images.channels).astype(np.uint64)
        total += values.sum(axis=0).astype(object)
        squares += (values * values).sum(axis=0).astype(object)
    count = len(images) * images.height * images.width
    mean = tuple(int(value) / count for value in total)
    variance = tuple((int(s) * count - int(t) ** 2) / count**2 for s, t in zip(squares, total, strict=True))
    classes: dict[int, int] = {}
    if images.info.labelled:
        labels, counts = np.unique(images.labels(np.arange(len(images))), return_counts=True)
        classes = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    return Statistics(len(images), mean, variance, classes)


def contact_sheet(path: Path, split: str, output: Path, count: int = 64) -> None:
    """Write evenly spaced images of a split as one picture.

    Args:
        path: prepared file.
        split: which split.
        output: .png to write.
        count: images on the sheet at most.
    """
    images = PackedSplit(path, split)
    count = min(count, len(images))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
    save_grid(images.images(chosen).transpose(0, 3, 1, 2), output)  # (N, H, W, C) -> (N, C, H, W)
