"""Images of a prepared data set, as the codec wants them."""

import numpy as np
import torch

from zoo.codec import Image
from zoo.data.locate import locate
from zoo.data.packed import PackedSplit
from zoo.errors import UserError
from zoo.likelihood import from_levels, to_levels


def split_images(
    dataset: str, split: str, limit: int | None, shape: tuple[int, int, int], bits: int, reduce: bool
) -> list[Image]:
    """Whole images of one split, read one at a time.

    Args:
        dataset: name or path of a prepared data set.
        split: "train", "val" or "test".
        limit: at most this many.
        shape: (C, H, W) of the model.
        bits: depth the model codes.
        reduce: set lower bits to zero.

    Raises:
        UserError: if the data set has other channels than the model.
    """
    packed = PackedSplit(locate(dataset), split, limit)
    if packed.channels != shape[0]:
        raise UserError(f"{dataset}: images of {packed.channels} channel(s), the model codes {shape[0]}")

    def image(number: int) -> Image:
        def load() -> np.ndarray:
            pixels = np.ascontiguousarray(packed.images([number])[0].transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)
            if reduce:
                pixels = from_levels(to_levels(torch.from_numpy(pixels), bits), bits).numpy()
            return pixels

        name = f"{split}-{number:06d}.png"
        return Image(name, (packed.height, packed.width), "R" if packed.channels == 3 else "L", load)

    return [image(number) for number in range(len(packed))]
