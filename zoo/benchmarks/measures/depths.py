"""Measures one network on one data set at 1 to 8 bits, under meeting and under overlapping bins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo.benchmarks.measures.bins import BOUNDED, line
from zoo.benchmarks.records import Measurement, Record
from zoo.errors import UserError
from zoo.likelihood.levels import Bins

ALL_DEPTHS = [1, 2, 3, 4, 5, 6, 7, 8]


def unbounded(bits: int) -> float:
    """The published lower limit of the mixture's log scale where it is not meant to bound (section 6)."""
    return -250.0 if bits == 8 else -14.0


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


def measure(
    depths: list[int] = ALL_DEPTHS,
    dataset: str = "photos",
    steps: int = 250,
    batch_size: int = 8,
    lr: float = 4e-3,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Measurement]:
    """Train a small network at every depth, bounded and unbounded, and price it under both kinds of bins.

    Args:
        depths: bit depths.
        dataset: what to train and price on.
        steps: optimiser steps of each training.
        batch_size: images per step.
        lr: peak learning rate.
        seed: of weights, data order and noise.
        limit: price at most this many images of the test file.
    """
    from zoo.benchmarks.measures.small_runs import LN2, network, price, train

    for bits in depths:
        for variant in VARIANTS:
            if variant.trained_with != "normalised" and bits == 8:
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
            settings: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
            settings |= {"limit": variant.limit, "trained_with": variant.trained_with}
            if found[0] is None:
                raise UserError(f"depth {bits}, {variant.limit}: the training diverged; lower --lr")
            yield line("depth", "Efficient-VDVAE, 7 layers", found[0], found[1], settings, run.seconds)
