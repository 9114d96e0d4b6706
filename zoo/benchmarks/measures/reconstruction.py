"""How well a model gives images back: structural similarity, peak signal to noise ratio and squared error."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.benchmarks.measures import metrics
from zoo.benchmarks.measures.metrics.images import SSIM_MARGIN
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, FirstStage, ImageNoise, LikelihoodModel, SamplePosterior

Rebuilding = LikelihoodModel | FirstStage


def measure(
    checkpoint: str,
    dataset: str = "photos",
    split: str = "test",
    count: int = 256,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[Measurement]:
    """SSIM, PSNR and squared error of reconstructions, of a first stage or from the posteriors of a hierarchy.

    Args:
        checkpoint: path or shipped name.
        dataset: prepared data set.
        split: of the data set.
        count: only the first so many images.
        batch_size: images at once.
        seed: of the posteriors' noise.
    """
    from zoo.benchmarks.measures.identity import describe, describe_split
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded, started = load(checkpoint), time.perf_counter()
    model = loaded.network
    if not isinstance(model, Rebuilding):
        raise UserError(f"{checkpoint}: {type(model).__name__} is no model of images")
    whole = isinstance(model, FirstStage)  # takes images of any size
    shape = (model.image_channels, 0, 0) if isinstance(model, FirstStage) else model.image_shape
    loader = open_split(dataset, split, shape, loaded.data, whole=whole)
    x, _ = loader.first(count)
    indices = torch.arange(len(x)).split(batch_size)
    rebuilt = torch.cat([reconstruct(model, x[part], part, seed) for part in indices])
    where = describe_split(loader)
    yield Measurement(
        question="reconstruction",
        subject=describe(loaded)["config"],
        settings={
            "dataset": where.dataset,
            "dataset_digest": where.digest,
            "split": split,
            "resolution": x.shape[-1],
            "images": len(x),
            "weights": loaded.digest,
            "seed": seed,
        },
        values=distances(x, rebuilt),
        seconds=round(time.perf_counter() - started, 3),
        **stamp(),
    )


@torch.no_grad()
def reconstruct(model: Rebuilding, x: Tensor, indices: Tensor, seed: int = 0) -> Tensor:
    """What a model makes of images (B, C, H, W) uint8, with the noise that belongs to each image.

    Raises:
        UserError: the model has neither a first stage nor posteriors.
    """
    if model.reconstructs:
        return model.reconstruct(x)
    if isinstance(model, AncestralModel) and model.kind == "bound" and model.steps is None:
        with torch.random.fork_rng(devices=[]):  # for the pixels, which are drawn too
            torch.manual_seed(seed)
            return model.render(SamplePosterior(ImageNoise(seed, 0, indices)), x=x)
    raise UserError(f"{type(model).__name__} does not reconstruct images: it has neither codes nor posteriors")


def distances(x: Tensor, rebuilt: Tensor) -> dict[str, float]:
    """Means over images of the three distances; equal images count as 100 dB, small ones have no SSIM."""
    found = {"mse [0,1]": float(metrics.mse(x, rebuilt).mean())}
    found["psnr dB"] = float(metrics.psnr(x, rebuilt).clamp_max(100.0).mean())
    if min(rebuilt.shape[-2:]) > 2 * SSIM_MARGIN:
        found["ssim"] = float(metrics.ssim(x, rebuilt).mean())
    return found
