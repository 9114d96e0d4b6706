"""Pictures in and out of the commands that show what a model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.codec.images import find_images, open_image
from zoo.data import open_split
from zoo.errors import UserError
from zoo.pictures import save_grid as save_grid


def check_png(path: str) -> Path:
    """The path of a picture to write.

    Raises:
        UserError: if it does not end in .png.
    """
    if not path.lower().endswith(".png"):
        raise UserError(f"--output {path or '(missing)'}: name a file that ends in .png")
    return Path(path)


def read_images(
    files: Sequence[str],
    dataset: str | None,
    split: str,
    count: int | None,
    shape: tuple[int, int, int],
    settings: Mapping[str, Any] | None = None,
) -> Tensor:
    """Images of the size a model was built for; larger files give their centre, data sets their tiles.

    Args:
        files: image files or folders; empty to take a data set.
        dataset: name or path of a prepared data set; its images are taken at equal distances.
        split: "train", "val" or "test".
        count: how many at most; None takes all files.
        shape: (C, H, W) of the model.
        settings: what the checkpoint notes of its training data.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        UserError: if an image cannot be read, is smaller than the model's, or has other channels.
    """
    if not files:
        return open_split(dataset, split, shape, settings).spread(count or 1)[0]
    opened = [(str(path), open_image(path, shape[0])) for path, _ in find_images(files)[0]]
    named = [(name, image.load(frame)) for name, image in opened for frame in range(image.entry.count)]
    return torch.stack([_centre(pixels, source, shape) for source, pixels in named[:count]])


def _centre(pixels: np.ndarray, source: str, shape: tuple[int, int, int]) -> Tensor:
    """The middle (C, H, W) of an image."""
    top, left = pixels.shape[1] - shape[1], pixels.shape[2] - shape[2]
    if top < 0 or left < 0:
        raise UserError(f"{source}: {pixels.shape[1]}x{pixels.shape[2]} pixels, the model needs {shape[1]}x{shape[2]}")
    top, left = top // 2, left // 2
    return torch.from_numpy(np.array(pixels[:, top : top + shape[1], left : left + shape[2]]))
