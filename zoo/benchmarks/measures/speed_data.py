"""Speed of the data path: random reads of prepared files beside `np.memmap`, on generated images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError

NOISE_SEED = 0
BATCH = 64
SIZES = {32: 20_000, 256: 512, 1024: 64}  # side -> images: 60 to 200 MB, more than processor caches hold
PNG_SIDE = 256  # from here on images are stored as PNG too
Read = Callable[[np.ndarray], object]


class Measured(NamedTuple):
    """One way of reading."""

    method: str
    images_per_second: float  # by the clock
    cpu_seconds: float | None  # of this process, per image; None where other processes do the work
    share: float | None  # speed by CPU time as a share of np.memmap's, which other programs do not disturb


def measure(
    sizes: list[int] = [32, 256],  # noqa: B006 (shown in the help, never changed)
    repeats: int = 10,
    workers: int = 2,
    folder: Path | None = None,
) -> Iterator[Measurement]:
    """Random reads of prepared files, from a warm page cache, in batches of 64.

    Args:
        sizes: sides of the images: 32, 256, 1024.
        repeats: passes of which the fastest counts.
        workers: processes of the loader that reads ahead.
        folder: where the generated files are put and removed; default: the system's folder for temporary files.
    """
    unknown = [side for side in sizes if side not in SIZES]
    if unknown or not sizes:
        raise UserError(f"--sizes {sizes}: expected some of {list(SIZES)}")
    for side in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            ways = time_reading(side, SIZES[side], Path(temporary), max(1, repeats), workers)
        for way in ways:
            values = {"images/s": way.images_per_second, "MB/s": way.images_per_second * side * side * 3 / 1e6}
            values |= {} if way.cpu_seconds is None else {"CPU us/image": way.cpu_seconds * 1e6}
            values |= {} if way.share is None else {"share of np.memmap": way.share}
            settings = {"side": side, "images": SIZES[side]}
            yield Measurement(question="speed_data", subject=way.method, settings=settings, values=values, **stamp())


def time_reading(side: int, count: int, folder: Path, repeats: int, workers: int) -> list[Measured]:
    """Time every way of reading `count` images of `side` pixels; ways take turns, the fastest pass of each counts."""
    bare, prepared = folder / "bare.npy", folder / "prepared.h5"
    _generate(side, count, bare, prepared)
    pngs = folder / "pngs.h5"
    if side >= PNG_SIDE:
        _pack(pngs, side, count, "png")
    order = np.random.default_rng(NOISE_SEED).permutation(count)
    batches = [order[start : start + BATCH] for start in range(0, count, BATCH)]
    ways = _ways(bare, prepared, pngs, batches, workers)
    clock, cpu = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for name, run in ways.items():
            started, used = time.perf_counter(), time.process_time()
            images = run()
            cpu[name] = min(cpu[name], (time.process_time() - used) / images)
            clock[name] = min(clock[name], (time.perf_counter() - started) / images)
    alone = {name: None if "workers" in name and "no" not in name.split() else cpu[name] for name in ways}
    return [
        Measured(name, 1 / clock[name], seconds, seconds and cpu["np.memmap"] / seconds)
        for name, seconds in alone.items()
    ]


def _ways(
    bare: Path, prepared: Path, pngs: Path, batches: list[np.ndarray], workers: int
) -> dict[str, Callable[[], int]]:
    """What is timed: each function reads everything once and returns the number of images."""
    from zoo.data.datamodule import ImageDataModule
    from zoo.data.packed import PackedSplit

    array = np.load(bare, mmap_mode="r")
    split = PackedSplit(prepared, "train")
    chunked = h5py.File(prepared, "r", locking=False)["train/images"]

    def reading(read: Read) -> Callable[[], int]:
        return lambda: sum(len(batch) for batch in batches if read(batch) is not None)

    def loading(number_of_workers: int, file: Path = prepared, **augmentations: Any) -> Callable[[], int]:
        data = ImageDataModule(str(file), batch_size=BATCH, num_workers=number_of_workers, **augmentations)
        loader = data.train_dataloader()
        epochs = iter(range(10_000))

        def run() -> int:
            loader.set_epoch(next(epochs))
            return sum(len(images) for images, _ in loader)

        return run

    ways = {
        "np.memmap": reading(lambda batch: array[batch]),
        "PackedSplit, whole batches": reading(split.images),
        "PackedSplit, one by one": reading(lambda batch: [split.images([index]) for index in batch]),
        "h5py, one by one": reading(lambda batch: [chunked[index] for index in batch]),
        "loader, no workers": loading(0),
        "loader with flips, no workers": loading(0, flip=True),
        "loader with flips, turns and channel orders, no workers": loading(
            0, flip=True, rotate=True, swap_channels=True
        ),
    }
    if workers > 0:
        ways[f"loader, {workers} workers"] = loading(workers)
    if pngs.is_file():
        ways["loader of stored PNG, no workers"] = loading(0, pngs)
        if workers > 0:
            ways[f"loader of stored PNG, {workers} workers"] = loading(workers, pngs)
    return ways


def _generate(side: int, count: int, bare: Path, prepared: Path) -> None:
    """The same random images as a bare array and as a prepared file."""
    array = np.lib.format.open_memmap(bare, "w+", np.uint8, (count, side, side, 3))
    for row, image in enumerate(noise(side, count)):
        array[row] = image
    array.flush()
    _pack(prepared, side, count, "raw")


def _pack(path: Path, side: int, count: int, encoding: str) -> None:
    """The random images as a prepared file."""
    from zoo.data.writer import PackedWriter

    with PackedWriter(path, {"train": count}, (side, side, 3), encoding) as writer:
        for image in noise(side, count):
            writer.add("train", image)
        writer.finish({"name": "generated", "variant": "generated"})


def noise(side: int, count: int) -> Iterator[np.ndarray]:
    """Random images, the same on every call."""
    generator = np.random.default_rng(NOISE_SEED)
    for _ in range(count):
        yield generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
