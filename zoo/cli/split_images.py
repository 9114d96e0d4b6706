"""Images of a prepared data set, as the codec wants them."""

import numpy as np

from zoo.codec import Entry, Image
from zoo.data import open_split
from zoo.likelihood import from_levels, to_levels


def split_images(
    dataset: str,
    split: str,
    limit: int | None,
    shape: tuple[int, int, int],
    bits: int,
    reduce: bool,
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
    loader = open_split(dataset, split, shape, None, limit, whole=True)
    _, height, width = loader.image_shape

    def image(number: int) -> Image:
        def load(frame: int) -> np.ndarray:
            pixels = loader.read([number])[0][0]  # (C, H, W)
            return (from_levels(to_levels(pixels, bits), bits) if reduce else pixels).numpy()

        entry = Entry(f"{split}-{number:06d}.png", "R" if shape[0] == 3 else "L", (height, width))
        return Image(entry, load)

    return [image(number) for number in range(loader.plan.num_samples)]
