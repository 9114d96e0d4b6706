"""Gradient smoothing: short trainings with and without it, at several batch sizes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Measurement, Record

if TYPE_CHECKING:
    from zoo.benchmarks.measures.small_runs import Run

THRESHOLD = 200.0
SPIKE = 5.0  # a gradient norm this many times the median of its run, since smoothing changes the scale of gradients
BATCH_SIZES = [4, 8, 32]


def measure(
    dataset: str = "photos",
    steps: int = 500,
    batch_sizes: list[int] = BATCH_SIZES,
    threshold: float = THRESHOLD,
    lr: float = 4e-3,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Measurement]:
    """Train a small network with and without gradient smoothing at every batch size, and price it.

    Args:
        dataset: what to train and price on.
        steps: optimiser steps of each training.
        batch_sizes: images per step.
        threshold: an update whose gradient norm (nats/dim) reaches this is skipped.
        lr: peak learning rate; higher than the published one, since a small network is stable at that.
        seed: of weights, data order and noise.
        limit: price at most this many images of the test file.
    """
    options: dict[str, Any] = {"steps": steps, "threshold": threshold, "lr": lr}
    for batch_size in batch_sizes:
        for smoothing in (False, True):
            yield _measure(smoothing, dataset=dataset, batch_size=batch_size, seed=seed, limit=limit, **options)


def _measure(
    smoothing: bool,
    *,
    dataset: str,
    steps: int,
    batch_size: int,
    threshold: float,
    lr: float,
    seed: int,
    limit: int | None,
) -> Measurement:
    """One training and its price on the test split."""
    from zoo.benchmarks.measures.small_runs import LN2, network, price, train  # Lightning takes seconds to import

    beta = LN2 if smoothing else 1.0
    run = train(
        network(beta),
        dataset=dataset,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        optimizer="adamax",
        lr=lr,
        warmup_steps=50,
        skip_norm=threshold,
        max_consecutive_skips=steps,
    )
    record = None if run.diverged else price(run, dataset, seed=seed, limit=limit)
    settings = {"batch_size": batch_size, "steps": steps, "threshold": threshold, "lr": lr, "seed": seed}
    return Measurement(
        question="stability",
        subject="Efficient-VDVAE, 7 layers",
        settings={"gradient_smoothing": smoothing, "beta": beta, **settings, "dataset": dataset},
        values=_values(run, record),
        seconds=round(run.seconds, 3),
        **store.stamp(),
    )


def _values(run: Run, record: Record | None) -> dict[str, float]:
    """Numbers of a training; without bits/dim if it diverged."""
    finite = [norm for norm in run.norms if math.isfinite(norm)]
    values = {"skipped_updates": float(run.skipped), "diverged": float(record is None)}
    if finite:
        middle = statistics.median(finite)
        values |= {"largest_norm": max(finite), "median_norm": middle, "steps": float(len(run.norms))}
        values["spikes"] = float(sum(norm >= SPIKE * middle for norm in run.norms) + len(run.norms) - len(finite))
    if record is not None:
        values |= {"bits_per_dim": record.bits_per_dim, "standard_error": record.standard_error}
        values["images"] = record.images
    return values
