"""Nearest training images of samples: a model that copies lies much closer to its training data than new images do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zoo.benchmarks.measures.metrics import Extractor, load_extractor
from zoo.benchmarks.measures.quality import Images, batched, drawn_images
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel


def measure(
    checkpoint: str,
    dataset: str | None = None,
    extractor: str = "pixels",
    count: int = 16,
    among: int = 1000,
    nearest: int = 3,
    seed: int = 0,
    output: Path | None = None,
) -> Iterator[Measurement]:
    """Distance of samples to their nearest training image, beside that of held-out images.

    Args:
        checkpoint: path or shipped name.
        dataset: data whose training split is searched; null = the data the model was trained on.
        extractor: feature network: pixels, inception, vgg16, digits or a TorchScript file.
        count: samples, and test images.
        among: training images that are searched, evenly spread over the split.
        nearest: how many neighbours the picture shows.
        seed: of the samples.
        output: PNG file: one row for each sample with its nearest training images.
    """
    from zoo.benchmarks.measures.identity import describe
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    model = loaded.network
    if not isinstance(model, LikelihoodModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} draws no images")
    train, test = (open_split(dataset, split, model.image_shape, loaded.data) for split in ("train", "test"))
    known, held = Images(*train.spread(among)), Images(*test.spread(count))
    fake = drawn_images(model, held.labels, count, seed)
    network = load_extractor(extractor)
    apart = {name: distances(network, images.pixels, known.pixels) for name, images in (("s", fake), ("h", held))}
    if output is not None:
        _draw(output, fake.pixels, known.pixels, apart["s"].topk(nearest, largest=False).indices)
    yield Measurement(
        question="neighbours",
        subject=describe(loaded)["config"],
        settings={"extractor": network.name, "samples": len(fake), "among": len(known), "weights": loaded.digest},
        values={
            "samples to training": float(apart["s"].min(dim=1).values.mean()),
            "held out to training": float(apart["h"].min(dim=1).values.mean()),
            "nearest sample": float(apart["s"].min()),
        },
        **stamp(),
    )


def distances(network: Extractor, images: Tensor, among: Tensor) -> Tensor:
    """(N, M) Euclidean distances of features between images (N, C, H, W) and (M, C, H, W), per feature."""
    first, second = (batched(network, pixels).double() for pixels in (images, among))
    apart: Tensor = torch.cdist(first, second) / first.shape[1] ** 0.5
    return apart


def _draw(path: Path, samples: Tensor, known: Tensor, order: Tensor) -> None:
    """Samples in the first column, their neighbours behind them."""
    from zoo.pictures import save_grid

    rows = torch.cat([samples[:, None], known[order]], dim=1)  # (N, 1 + nearest, C, H, W)
    save_grid(rows.flatten(0, 1), path, columns=rows.shape[1])
