"""Measures how the bound of a model degrades when fewer and fewer posteriors are kept."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from zoo.benchmarks import records
from zoo.benchmarks.measures.claims import upheld
from zoo.benchmarks.measures.evaluator import Settings, evaluate
from zoo.benchmarks.measures.identity import describe, describe_split
from zoo.benchmarks.records import Measurement, Record
from zoo.data import open_split
from zoo.data.loading import EvaluationLoader
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, LikelihoodModel, LikelihoodTerms, Noise, SamplePosterior
from zoo.likelihood.noise import ImageNoise
from zoo.likelihood.pruning import (
    BYTES_PER_LATENT,
    Granularity,
    MeanKL,
    channel_means,
    keep_share,
    kept_dimensions,
    pruned_terms,
)
from zoo.likelihood.terms import Objective

PERCENT = (0.0, 1.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0)
"""Shares of posteriors kept: those of the paper, and more, since small models spread their information wider."""


class PrunedModel(LikelihoodModel):
    """A model whose pruned posteriors are replaced by the prior, for everything that prices models.

    Args:
        model: any model with Gaussian sites.
        keep: see `zoo.likelihood.pruning.PrunedPosterior`.
    """

    def __init__(self, model: AncestralModel, keep: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.keep = model, keep
        self.bits, self.image_shape, self.priced = model.bits, model.image_shape, model.priced

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """See `pruned_terms`."""
        return pruned_terms(self.model, x, self.keep, noise)

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """There is none."""
        raise NotImplementedError("a pruned model is not trained")

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Samples come from the prior, which pruning does not touch."""
        return self.model.sample(n, temperature, label)


@torch.no_grad()
def mean_kl(model: AncestralModel, loader: EvaluationLoader, seed: int = 0) -> dict[str, Tensor]:
    """Mean KL of every latent dimension over a split: site -> (Z, R, R) nats per image."""
    model.eval()
    device = next(model.parameters()).device
    policy = SamplePosterior()
    statistics = MeanKL(lambda site: policy(site))
    for position, (x, _) in enumerate(loader):
        policy = SamplePosterior(ImageNoise(seed, 0, loader.indices(position)))
        try:
            model.ancestral_pass(statistics, x.to(device))
        except ValueError as error:
            raise UserError(f"{type(model).__name__} cannot be pruned: {error}") from error
    return statistics.means()


def measure(
    checkpoint: str,
    dataset: str = "photos",
    statistics: str = "train",
    split: str = "test",
    percent: list[float] = list(PERCENT),  # noqa: B006 (shown in the help, never changed)
    granularity: Granularity = "dimension",
    seed: int = 0,
    batch_size: int = 32,
    limit: int | None = None,
) -> Iterator[Measurement]:
    """Prune a checkpoint to several shares of its posteriors and price a split with each.

    Args:
        checkpoint: path or shipped name.
        dataset: name or path, as `zoo fit` takes it.
        statistics: split whose mean KL decides what is kept (the official code takes training images).
        split: split that is priced.
        percent: shares of posteriors kept.
        granularity: prune single latent dimensions, or whole channels as the official code does.
        seed: of the noise; 100 percent repeats the plain evaluation with this seed exactly.
        batch_size: images per batch.
        limit: at most this many images of either split's file.
    """
    from zoo.checkpoints import load

    loaded = load(checkpoint)
    network = loaded.network
    if not isinstance(network, AncestralModel):
        raise UserError(f"{checkpoint}: {type(network).__name__} has no latents to prune; give a hierarchical VAE")
    loader = open_split(dataset, statistics, network.image_shape, loaded.data, limit, batch_size)
    means = mean_kl(network, loader, seed)
    shapes = {name: tuple(mean.shape) for name, mean in means.items()}
    entries = channel_means(means) if granularity == "channel" else means
    for share in sorted(percent):
        keep = keep_share(entries, share / 100.0)
        loader = open_split(dataset, split, network.image_shape, loaded.data, limit, batch_size)
        identity = describe(loaded)
        try:
            record = evaluate(PrunedModel(network, keep), loader, Settings(seed=seed), **identity)
        except UserError as error:  # draws from the prior of a small network may overflow; other shares are still good
            print(f"{share:g} % kept: no number, {error}", file=sys.stderr)
            continue
        settings: dict[str, str | float] = {
            "percent": float(share),
            "statistics": statistics,
            "granularity": granularity,
        }
        kept = kept_dimensions(keep, shapes)
        total = sum(mean.numel() for mean in means.values())
        rows = upheld(identity["reproduces"], record.architecture, describe_split(loader))
        named = tuple(row for row in rows if row.endswith(".keep" + f"{share:g}".replace(".", "_")))
        yield dataclasses.replace(_line(record, loaded.digest, settings, kept, total), reproduces=named)


def _line(record: Record, weights: str, settings: Mapping[str, str | float], kept: int, total: int) -> Measurement:
    """One share as a stored line."""
    return Measurement(
        question="pruning",
        subject=record.config,
        settings={
            **settings,
            "model": record.model,
            "weights": weights,
            "dataset": record.dataset,
            "dataset_digest": record.dataset_digest,
            "resolution": record.resolution,
            "bits": record.bits,
            "split": record.split,
            "images": record.images,
            "seed": record.seed,
            "batch_size": record.batch_size,
        },
        values={
            "bits_per_dim": record.bits_per_dim,
            "standard_error": record.standard_error,
            "rate": record.rate,
            "distortion": record.distortion,
            "kept_latents": kept,
            "latents": total,
            "megabytes": record.images * kept * BYTES_PER_LATENT / 1e6,
        },
        seconds=record.seconds,
        **records.stamp(),
    )
