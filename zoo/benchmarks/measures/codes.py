"""Measured prices of codes: negative log-likelihood of each level's prior, and the error of the reconstruction."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import ImageNoise

if TYPE_CHECKING:
    from zoo.data.loading import EvaluationLoader


def measure(
    checkpoint: str,
    splits: list[str] = ["train", "test"],  # noqa: B006 (shown in the help, never changed)
    dataset: str | None = None,
    limit: int | None = None,
    batch_size: int = 32,
) -> Iterator[Measurement]:
    """Negative log-likelihood of each level's prior and squared error of the decoder, train and held out.

    Args:
        checkpoint: of a `VQVAE2` or a `LatentVAE`: path, run folder or shipped name.
        splits: parts of the data set, one record each.
        dataset: null = the data the model was trained on.
        limit: only the first so many images.
        batch_size: images priced at once.
    """
    for split in splits:
        yield price_codes(checkpoint, split, dataset, limit, batch_size)


def price_codes(
    checkpoint: str | Path, split: str, dataset: str | None = None, limit: int | None = None, batch_size: int = 32
) -> Measurement:
    """Price the codes of every image of a split under a model's priors.

    Args:
        checkpoint: of a `VQVAE2` or a `LatentVAE`: path, run folder or shipped name.
        split: of the data set.
        dataset: null = the data the model was trained on.
        limit: only the first so many images.
        batch_size: images priced at once.

    Returns:
        One line with, for each level, nats and bits per code; the rate in bits/dim; the mean squared error of the
        reconstruction on [-1, 1] and on [0, 1]. For a latent VAE nats per image and bits per latent dimension.

    Raises:
        UserError: if the checkpoint holds no priors over codes.
    """
    from zoo.benchmarks.measures.claims import upheld
    from zoo.benchmarks.measures.identity import architecture, describe, describe_split
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    network: Any = loaded.network
    latent = "codes" in network.estimators()  # a latent VAE, whose code is a real vector sent with some precision
    if not latent and not (network.code_grids and network.reconstructs):
        kind = type(network).__name__
        raise UserError(f"{checkpoint}: holds a {kind} without priors over codes; expected a VQVAE2 or a LatentVAE")
    price = functools.partial(network.terms_with, "codes") if latent else network.terms
    loader = open_split(dataset, split, network.image_shape, loaded.data, limit, batch_size, place=(0, 1))
    start = time.perf_counter()
    nats, squared, images = _sums(network, price, loader)
    values = (_latent_values if latent else _values)(network, nats, squared, images)
    known, where = describe(loaded), describe_split(loader)
    settings = {
        "dataset": where.dataset,
        "split": split,
        "resolution": network.image_shape[-1],
        "bits": network.bits,
        "images": images,
        "weights": loaded.digest,
    }
    other = ".validation" if split == "train" else ".train"
    rows = upheld(known["reproduces"], architecture(loaded.spec), where, every_split=True)
    return Measurement(
        question="codes",
        subject=known["config"],
        settings=settings,
        values=values,
        reproduces=tuple(row for row in rows if not row.endswith(other)),
        seconds=time.perf_counter() - start,
        **stamp(),
    )


def _sums(network: Any, price: Any, loader: EvaluationLoader) -> tuple[dict[str, float], float, int]:
    """Nats of every level and squared errors over all images, and how many these are."""
    nats: dict[str, float] = {}
    squared, images = 0.0, 0
    with torch.inference_mode():
        for position, (x, label) in enumerate(loader):
            for name, rate in price(x, label, ImageNoise(0, 0, loader.indices(position))).rates.items():
                nats[name] = nats.get(name, 0.0) + float(rate.double().sum())
            squared += float(network.mse(x).double().sum())
            images += len(x)
    return nats, squared, images


def _values(network: Any, nats: dict[str, float], squared: float, images: int) -> dict[str, float]:
    """Means per code, per dimension and per pixel."""
    from zoo.likelihood import nats_to_bits_per_dim

    channels, height, width = network.image_shape
    values: dict[str, float] = {}
    for name, grid in network.code_grids.items():
        per_code = nats[name] / images / (grid[0] * grid[1])
        values[f"{name} nats/code"] = per_code
        values[f"{name} bits/code"] = float(nats_to_bits_per_dim(torch.tensor(per_code).double(), 1))
    total = torch.tensor(sum(nats.values()) / images).double()
    values["rate bits/dim"] = float(nats_to_bits_per_dim(total, channels * height * width))
    values["mse [-1,1]"] = squared / images
    values["mse [0,1]"] = squared / images / 4
    return values


def _latent_values(network: Any, nats: dict[str, float], squared: float, images: int) -> dict[str, float]:
    """Means per image, per latent dimension and per pixel dimension: a rate at some precision, not a likelihood."""
    from zoo.likelihood import nats_to_bits_per_dim

    per_image = {name: value / images for name, value in nats.items()}
    last = per_image.pop("latent")
    total = torch.tensor(sum(per_image.values()) + last).double()
    return {
        "groups nats/image": sum(per_image.values()),
        "latent nats/image": last,
        "bits per latent dimension": float(nats_to_bits_per_dim(total, network.latent_dims)),
        "rate bits/dim": float(nats_to_bits_per_dim(total, math.prod(network.image_shape))),
        "mse [-1,1]": squared / images,
        "mse [0,1]": squared / images / 4,
    }
