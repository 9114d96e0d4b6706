"""Bits/dim by number of stochastic layers, the argument of VDVAE (Child 2020): one small network at several depths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError

ALL_DEPTHS = [4, 7, 14, 21]
SHARES = (1, 2, 3, 1)  # layers at 4, 8, 16 and 32 pixels of the network with 7


def measure(
    layers: list[int] = ALL_DEPTHS,
    dataset: str = "photos",
    steps: int = 500,
    batch_size: int = 8,
    lr: float = 4e-3,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Measurement]:
    """Train a small network with more and more stochastic layers, everything else equal, and price it.

    Args:
        layers: numbers of stochastic layers: 4 (one at each resolution) or a multiple of 7.
        dataset: what to train and price on.
        steps: optimiser steps of each training.
        batch_size: images per step.
        lr: peak learning rate.
        seed: of weights, data order and noise.
        limit: price at most this many images of the test file.
    """
    from zoo.benchmarks.measures.small_runs import LN2, price, train

    options = {"steps": steps, "batch_size": batch_size, "seed": seed}
    for depth, spec in [(depth, deepened(depth, LN2)) for depth in layers]:
        run = train(spec, dataset=dataset, optimizer="adamax", lr=lr, warmup_steps=50, clip_norm=2.0, **options)
        record = None if run.diverged else price(run, dataset, seed=seed, limit=limit)
        if record is None:
            raise UserError(f"{depth} layers: the training diverged; lower --lr")
        where = {"dataset": record.dataset, "dataset_digest": record.dataset_digest, "split": record.split}
        names = ("parameters", "images", "bits_per_dim", "standard_error", "rate", "distortion")
        yield Measurement(
            question="layers",
            subject=f"Efficient-VDVAE, {depth} layers",
            settings={"bits": record.bits, "lr": lr, **options, **where},
            values={"stochastic_layers": len(record.rates), **{name: getattr(record, name) for name in names}},
            seconds=round(run.seconds, 3),
            **stamp(),
        )


def deepened(layers: int, beta: float) -> dict[str, Any]:
    """The small network with this many stochastic layers.

    Raises:
        UserError: no such depth.
    """
    from zoo.benchmarks.measures.small_runs import network

    if layers != len(SHARES) and (layers < 1 or layers % sum(SHARES)):
        raise UserError(f"--layers {layers}: expected {len(SHARES)} or a multiple of {sum(SHARES)}")
    spec = network(beta)
    for stage, share in zip(spec["init_args"]["architecture"]["top_down"], SHARES, strict=True):
        stage["blocks"] = [1 if layers == len(SHARES) else share * layers // sum(SHARES)]
    return spec
