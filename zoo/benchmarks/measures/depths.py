"""Measures one network on one data set at 1 to 8 bits, under meeting and under overlapping bins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Measurement, Record
from zoo.errors import UserError
from zoo.likelihood.levels import Bins

OFFICIAL: dict[str, Bins] = {"EfficientVDVAE": "efficient_vdvae", "VDVAE": "vdvae"}
"""Class name -> the bins under which its official code prices."""

BOUNDED = -7.0


def unbounded(bits: int) -> float:
    """The published lower limit of the mixture's log scale where it is not meant to bound (section 6)."""
    return -250.0 if bits == 8 else -14.0


def overlap(bits: int) -> float:
    """How much wider the official bins are than the spacing of the levels.

    Half-width 1 / (2^bits - 1) against a spacing of 2^(8 - bits) / 127.5.

    Example:
        >>> round(overlap(5), 4), overlap(8)
        (1.0282, 1.0)
    """
    return 255.0 / (256 - 2 ** (8 - bits))


def free_bits(bits: int) -> float:
    """Bits per dimension that overlap gives away to a distribution much wider than a bin: log2 of `overlap`."""
    return math.log2(overlap(bits))


@dataclass(frozen=True)
class Variant:
    """A way to train: the lower limit of the scales, and the bins that are priced in training."""

    limit: str  # "bounded" or "unbounded"
    trained_with: Bins


VARIANTS = (
    Variant("bounded", "normalised"),
    Variant("unbounded", "normalised"),
    Variant("unbounded", "efficient_vdvae"),
)


def train_all(
    depths: Sequence[int], *, dataset: str, steps: int, batch_size: int, lr: float, seed: int, limit: int | None
) -> Iterator[Measurement]:
    """Train the small network at every depth in every variant and price it under both kinds of bins."""
    from zoo.benchmarks.measures.small_runs import price, train
    from zoo.benchmarks.tables.stability import LN2, network

    for bits in depths:
        for variant in VARIANTS:
            if variant.trained_with != "normalised" and overlap(bits) == 1.0:
                continue  # the two kinds of bins are the same
            floor = BOUNDED if variant.limit == "bounded" else unbounded(bits)
            spec = network(LN2, bits, min_log_scale=floor, bins=variant.trained_with)
            run = train(
                spec,
                dataset=dataset,
                steps=steps,
                batch_size=batch_size,
                seed=seed,
                optimizer="adamax",
                lr=lr,
                warmup_steps=50,
                clip_norm=2.0,
            )
            found: list[Record | None] = []
            for bins in ("normalised", "efficient_vdvae"):
                run.network.bins = bins
                found.append(None if run.diverged else price(run, dataset, seed=seed, limit=limit))
            settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
            settings |= {"limit": variant.limit, "trained_with": variant.trained_with}
            if found[0] is None:
                raise UserError(f"depth {bits}, {variant.limit}: the training diverged; lower --lr")
            yield line("Efficient-VDVAE, 7 layers", found[0], found[1], settings, run.seconds)


def price_checkpoint(checkpoint: str, *, dataset: str, seed: int, limit: int | None) -> Measurement:
    """Price the same weights under meeting bins and under those of the official code.

    Raises:
        UserError: the model has no official bins.
    """
    from zoo.benchmarks.measures.evaluator import Settings, evaluate
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    name = type(loaded.network).__name__
    if name not in OFFICIAL:
        raise UserError(f"{checkpoint}: {name} has one bins only; give a VDVAE or Efficient-VDVAE checkpoint")
    found = []
    for bins in ("normalised", OFFICIAL[name]):
        loaded.network.bins = bins
        loader = open_split(dataset, "test", loaded.network.image_shape, loaded.data, limit)
        found.append(evaluate(loaded.network, loader, Settings(seed=seed), spec=loaded.spec))
    limit_name = "bounded" if loaded.spec["init_args"].get("min_log_scale", BOUNDED) >= BOUNDED else "unbounded"
    settings = {"limit": limit_name, "trained_with": "as it was", "seed": seed, "weights": loaded.digest}
    return line(Path(loaded.path).stem, found[0], found[1], settings, found[0].seconds + found[1].seconds)


def line(
    subject: str, meeting: Record, official: Record | None, settings: dict[str, Any], seconds: float
) -> Measurement:
    """Both prices of the same weights as a stored line."""
    values = {
        "bits_per_dim": meeting.bits_per_dim,
        "standard_error": meeting.standard_error,
        "rate": meeting.rate,
        "distortion": meeting.distortion,
        "images": meeting.images,
    }
    if official is not None:
        values |= {"official_bits_per_dim": official.bits_per_dim, "official_distortion": official.distortion}
    where = {"dataset": meeting.dataset, "dataset_digest": meeting.dataset_digest, "split": meeting.split}
    return Measurement(
        table="depth",
        subject=subject,
        settings={"bits": meeting.bits, **settings, **where},
        values=values,
        seconds=round(seconds, 3),
        **store.stamp(),
    )
