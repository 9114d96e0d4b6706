"""The one door to the images of a split: every command, measure and suite sees them as the checkpoint means them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from zoo.data.loading import BatchReader, EvaluationLoader, LabelKind
from zoo.data.locate import locate
from zoo.data.packed import PackedSplit
from zoo.data.plans import EvaluationPlan, Window
from zoo.errors import UserError

EVALUATION_BINARISE_SEED = 0  # one fixed draw, the same for everybody
DATASET = "photos"


def open_split(
    dataset: str | Path | None,
    split: str,
    image_shape: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    *,
    whole: bool = False,
    place: tuple[int, int] | None = None,
) -> EvaluationLoader:
    """Every image of a split once and in order, in the size of a model; larger images fall into tiles.

    Args:
        dataset: name or path of a prepared data set; None = the one in `settings`, else the bundled photographs.
        split: "train", "val" or "test".
        image_shape: (C, H, W) of the model.
        settings: what the checkpoint notes of its training data (`pad`, `binarize`, `labels`, `dataset`); others are
            left out, since the tiles follow from the model's size.
        limit: only the first so many images of the file.
        batch_size: images of a batch.
        whole: whole images as they are stored, of any size; only the channels must be the model's.
        place: number of this process and of all; None asks `torch.distributed`.

    Returns:
        A loader of (uint8 (B, C, H, W), int64 (B,)); `loader.indices(b)` are the numbers of the images in batch b,
        `loader.first(n)` and `loader.spread(n)` read a few of them.

    Raises:
        UserError: no such data or split, or images that the model's size does not fit.

    Example:
        >>> loader = open_split("photos", "test", (3, 32, 32), batch_size=16)
        >>> x, label = next(iter(loader))
        >>> tuple(x.shape), loader.plan.num_samples, loader.indices(1)[:2].tolist()
        ((16, 3, 32, 32), 256, [16, 17])
    """
    noted = settings or {}
    name, place = str(dataset or noted.get("dataset") or DATASET), place or this_process()
    images = PackedSplit(locate(name), split, limit)
    if images.channels != image_shape[0]:
        raise UserError(f"{name}: images of {images.channels} channel(s), the model's have {image_shape[0]}")
    if whole:
        return evaluation_loader(images, None, 0, False, "class", batch_size, place)
    pad, binarise, labels = int(noted.get("pad") or 0), bool(noted.get("binarize")), noted.get("labels", "class")
    crop = tile_side((images.height, images.width), image_shape, pad, name)
    return evaluation_loader(images, crop, pad, binarise, labels, batch_size, place)


def tile_side(size: tuple[int, int], image_shape: Sequence[int], pad: int, name: str) -> int | None:
    """Side of the tiles that images are cut into for a model; None where they are of its size.

    Args:
        size: height and width of the images.
        image_shape: (C, H, W) of the model.
        pad: pixels added on every side of a tile.
        name: of the data set, for messages.

    Raises:
        UserError: the images are smaller, or the model's windows are no squares.
    """
    height, width = image_shape[1] - 2 * pad, image_shape[2] - 2 * pad
    if size == (height, width):
        return None
    if height != width or not 0 < height <= min(size):
        raise UserError(
            f"{name}: {size[0]}x{size[1]} images{f' padded by {pad}' if pad else ''}, the model prices "
            f"{image_shape[1]}x{image_shape[2]}; choose another data set"
        )
    return height


def evaluation_loader(
    images: PackedSplit,
    crop: int | None,
    pad: int,
    binarise: bool,
    labels: LabelKind,
    batch_size: int,
    place: tuple[int, int],
    num_workers: int = 0,
) -> EvaluationLoader:
    """The loader behind `open_split` and `ImageDataModule`: same images, same order, same fixed binarisation."""
    window = Window(images.height, images.width, crop)
    seed = EVALUATION_BINARISE_SEED if binarise else None
    plan = EvaluationPlan(len(images), window, batch_size, *place, seed)
    # evaluation never changes an image, so the flag of augmented training is 0 there
    return EvaluationLoader(BatchReader(images, window.size, pad, labels), plan, num_workers)


def this_process() -> tuple[int, int]:
    """Number of this process and of all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
