"""Quality of a model's samples and of its first stage's reconstructions, measured against a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.benchmarks.measures import metrics
from zoo.benchmarks.measures.metrics import Classifier, Extractor
from zoo.benchmarks.records import Measurement, stamp
from zoo.data import open_split
from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.likelihood import FirstStage, LikelihoodModel


@dataclass(frozen=True)
class Images:
    """A set of pictures.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, -1 where there is none.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def stored_images(path: Path) -> Images:
    """Samples from a file in the layout of the ADM evaluator: npz with `arr_0` uint8 (N, H, W, C), labels in `arr_1`.

    Raises:
        UserError: the file is missing or has another layout.
    """
    try:
        with np.load(path) as arrays:
            pixels = arrays["arr_0"]
            labels = arrays["arr_1"] if "arr_1" in arrays else np.full(len(pixels), -1)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: expected an .npz file with uint8 images (N, H, W, C) under 'arr_0' ({error})"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise UserError(f"{path}: arr_0 is {pixels.dtype} {pixels.shape}, expected uint8 (N, H, W, C)")
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.astype(np.int64)))


def store_images(path: Path, images: Images) -> None:
    """Write a set in the layout that `stored_images` reads.

    Raises:
        UserError: the name does not end in .npz.
    """
    if path.suffix != ".npz":
        raise UserError(f"{path}: a set of images is kept in a file that ends in .npz")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, arr_0=images.pixels.permute(0, 2, 3, 1).numpy(), arr_1=images.labels.numpy())


def drawn_images(network: LikelihoodModel, labels: Tensor, batch_size: int, seed: int, **options: float) -> Images:
    """One sample for each label (-1: none), every batch with its own noise."""
    torch.manual_seed(seed)
    parts = []
    with torch.inference_mode():
        for part in labels.split(batch_size):
            given = None if bool((part < 0).all()) else part
            parts.append(network.sample(len(part), label=given, **options))
    return Images(torch.cat(parts).clone(), labels)


@torch.no_grad()
def batched(function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 64) -> Tensor:
    """A function of images applied batch by batch."""
    return torch.cat([function(part) for part in images.split(batch_size)])


def sample_scores(real: Images, fake: Images, extractor: Extractor) -> dict[str, float]:
    """Distances of samples to real images; the names carry the extractor, only `inception` gives "fid"."""
    features = batched(extractor, real.pixels), batched(extractor, fake.pixels)
    names = distance_names(extractor)
    scores = {names[0]: metrics.frechet_distance(*features), names[1]: metrics.kernel_distance(*features)}
    if min(len(real), len(fake)) > 3:
        scores["precision"], scores["recall"] = metrics.precision_recall(*features, k=3)
    if extractor.has_logits:
        scores["inception_score"] = metrics.inception_score(batched(extractor.logits, fake.pixels))
    return scores


def distance_names(extractor: Extractor) -> tuple[str, str]:
    """What Frechet and kernel distance are called for a feature network."""
    return ("fid", "kid") if extractor.name == "inception" else (f"fd_{extractor.name}", f"kd_{extractor.name}")


def reconstruction_scores(real: Images, rebuilt: Tensor, fake: Images | None, extractor: Extractor) -> dict[str, float]:
    """Error of the first stage, and the samples' distance to its reconstructions (FID* of Razavi et al. 2019)."""
    name = distance_names(extractor)[0]
    features = batched(extractor, rebuilt)
    scores = {f"r{name}": metrics.frechet_distance(batched(extractor, real.pixels), features)}
    if fake is not None:
        scores[f"{name}_star"] = metrics.frechet_distance(features, batched(extractor, fake.pixels))
    scores["mse01"] = float(metrics.mse(real.pixels, rebuilt).mean())
    scores["psnr"] = float(metrics.psnr(real.pixels, rebuilt).clamp_max(100.0).mean())  # equal images: 100 dB
    if min(rebuilt.shape[-2:]) > 2 * 5:
        scores["ssim"] = float(metrics.ssim(real.pixels, rebuilt).mean())
    return scores


def class_scores(train: Images, test: Images, epochs: int, seed: int = 0) -> dict[str, float]:
    """Classification accuracy score: a ResNet trained on samples, tested on real images."""
    torch.manual_seed(seed)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    small = train.pixels.shape[-1] <= 64
    shape: dict[str, Any] = (
        {"blocks": (1, 1, 1), "width": 16} if small else {"blocks": (3, 4, 6, 3), "width": 64, "stem_stride": 4}
    )
    network = Classifier(classes, image_channels=train.pixels.shape[1], bottleneck=not small, **shape)
    score = metrics.classification_accuracy(
        network, (train.pixels, train.labels), (test.pixels, test.labels), epochs=epochs, seed=seed
    )
    return {"cas_top1": score["top1"], "cas_top5": score["top5"]}


def measure(
    checkpoint: str | None = None,
    samples: list[Path] = [],  # noqa: B006 (shown in the help, never changed)
    dataset: str = "photos",
    split: str = "test",
    extractor: str = "inception",
    count: int = 1000,
    size: int | None = None,
    batch_size: int = 32,
    temperature: float = 1.0,
    guidance_mean: float = 0.0,
    guidance_std: float = 0.0,
    cas_epochs: int = 0,
    seed: int = 0,
    output: Path | None = None,
) -> Iterator[Measurement]:
    """FID, precision and recall, Inception Score, reconstruction FID and FID*, classification accuracy score.

    Args:
        checkpoint: as many samples as real images are drawn from it, and reconstructions made where it can.
        samples: files of samples to measure as well, npz as the ADM evaluator reads it.
        dataset: prepared data set with the real images.
        split: of the data set.
        extractor: feature network: inception (downloaded when first used), vgg16, digits, pixels or a TorchScript file.
        count: real images, and samples drawn.
        size: side of the images, for a first stage alone, which has none; null = the model's own.
        batch_size: samples drawn at once.
        temperature: of the samples.
        guidance_mean: strength of guidance of the means, for class-conditional latent VAEs.
        guidance_std: strength of guidance of the standard deviations.
        cas_epochs: passes over the samples for the classification accuracy score; 0 leaves it out.
        seed: of the samples.
        output: .npz file that the drawn samples are kept in, as the ADM evaluator reads it.
    """
    from zoo.benchmarks.measures.metrics import load_extractor

    network = load_extractor(extractor)
    options: dict[str, Any] = {"temperature": temperature}
    options |= {"guidance_mean": guidance_mean} if guidance_mean else {}
    options |= {"guidance_std": guidance_std} if guidance_std else {}
    if checkpoint is not None:
        model, real = _model_and_images(checkpoint, dataset, split, count, size)
        fake = None
        if isinstance(model, LikelihoodModel):
            fake = drawn_images(model, real.labels, batch_size, seed, **options)
            if output is not None:
                store_images(output, fake)
        named = {"dataset": dataset, "split": split, "seed": seed, **options, "resolution": real.pixels.shape[-1]}
        yield score(checkpoint, model, real, fake, network, named, cas_epochs)
    for path in samples:
        fake = stored_images(path)
        real = Images(*open_split(dataset, split, fake.pixels.shape[1:]).first(count))
        named = {"dataset": dataset, "split": split, "resolution": fake.pixels.shape[-1]}
        yield score(path.stem, None, real, fake, network, named, cas_epochs)


def _model_and_images(
    checkpoint: str, dataset: str, split: str, count: int, size: int | None
) -> tuple[LikelihoodModel | FirstStage, Images]:
    """A checkpoint, and real images of its size; a first stage alone makes reconstructions only, of any size."""
    from zoo.checkpoints import load

    loaded = load(checkpoint)
    model: Any = loaded.network
    draws = isinstance(model, LikelihoodModel)
    shape = (3, size, size) if size else model.image_shape if draws else (3, 0, 0)
    loader = open_split(dataset, split, shape, loaded.data, whole=not draws and not size)
    return model, Images(*loader.first(count))


def score(
    subject: str,
    network: LikelihoodModel | FirstStage | None,
    real: Images,
    fake: Images | None,
    extractor: Extractor,
    settings: dict[str, str | int | float | bool | None],
    cas_epochs: int = 0,
) -> Measurement:
    """All scores that the inputs allow, as a line of the records.

    Args:
        subject: name of the row.
        network: for the scores of its first stage; None for stored samples.
        real: images of the split.
        fake: samples; None measures reconstructions only.
        extractor: feature network.
        settings: what else tells the line from others.
        cas_epochs: passes over the samples for the classification accuracy score; 0 leaves it out.
    """
    start = time.perf_counter()
    scores = {} if fake is None else sample_scores(real, fake, extractor)
    if network is not None and network.reconstructs:
        rebuilt = batched(network.reconstruct, real.pixels, 32)
        scores |= reconstruction_scores(real, rebuilt, fake, extractor)
    if cas_epochs and fake is not None:
        if bool((fake.labels < 0).any() | (real.labels < 0).any()):
            raise UserError("--cas_epochs: needs classes of real images and samples; use a labelled data set and model")
        scores |= class_scores(fake, real, cas_epochs)
    known = {"extractor": extractor.name, "real": len(real), "samples": 0 if fake is None else len(fake), **settings}
    seconds = time.perf_counter() - start
    return Measurement(
        question="quality", subject=subject, settings=known, values=scores, **{**stamp(), "seconds": seconds}
    )
