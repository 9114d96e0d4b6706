"""Trains one small hierarchy with few and with many stochastic layers: does depth pay (Child 2020, section 4)?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Measurement
from zoo.errors import UserError

PLANS: dict[int, tuple[int, int, int, int]] = {  # stochastic layers -> of them at 4x4, 8x8, 16x16, 32x32
    4: (1, 1, 1, 1),
    7: (1, 2, 3, 1),
    11: (1, 3, 5, 2),
    17: (2, 4, 7, 4),
}


def measure(
    layers: list[int] = list(PLANS),  # noqa: B006 (a default for the reader, never changed)
    dataset: str = "photos",
    bits: int = 8,
    steps: int = 250,
    batch_size: int = 8,
    lr: float = 4e-3,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Measurement]:
    """Train a small network with different numbers of stochastic layers, everything else equal, and price it.

    Args:
        layers: numbers of stochastic layers, of 4, 7, 11 and 17.
        dataset: what to train and price on.
        bits: depth that is priced.
        steps: optimiser steps of each training.
        batch_size: images per step.
        lr: peak learning rate.
        seed: of weights, data order and noise.
        limit: price at most this many images of the test split.

    Raises:
        UserError: a number of layers that there is no network for, or a training diverged.
    """
    from zoo.benchmarks.measures.small_runs import LN2, network, price, train

    settings: dict[str, Any] = {
        "dataset": dataset,
        "bits": bits,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }
    training: dict[str, Any] = {"optimizer": "adamax", "lr": lr, "warmup_steps": 50, "clip_norm": 2.0}
    for count in layers:
        if count not in PLANS:
            raise UserError(f"--layers {count}: there are networks of {', '.join(map(str, PLANS))} layers")
        spec = network(LN2, bits)
        for stage, blocks in zip(spec["init_args"]["architecture"]["top_down"], PLANS[count], strict=True):
            stage["blocks"] = [blocks]
        run = train(spec, dataset=dataset, steps=steps, batch_size=batch_size, seed=seed, **training)
        found = None if run.diverged else price(run, dataset, seed=seed, limit=limit)
        if found is None:
            raise UserError(f"{count} layers: the training diverged; lower --lr")
        values: dict[str, float] = {"stochastic_layers": count, "parameters": found.parameters, "images": found.images}
        values |= {name: getattr(found, name) for name in ("bits_per_dim", "standard_error", "rate", "distortion")}
        yield Measurement(
            question="layers",
            subject="Efficient-VDVAE, small",
            settings={**settings, "layers": "-".join(map(str, PLANS[count]))},
            values=values,
            seconds=run.seconds,
            **store.stamp(),
        )
