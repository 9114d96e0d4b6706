"""Seconds that a model takes to draw images, every stage and the conversion to uint8 included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel


def measure(checkpoint: str, images: int = 16, batch_size: int = 16, steps: int = 250) -> Iterator[Measurement]:
    """Seconds per 1000 images drawn.

    Args:
        checkpoint: path or shipped name.
        images: drawn and timed.
        batch_size: images drawn at once.
        steps: steps of a diffusion model.
    """
    from zoo.checkpoints import load

    if min(images, batch_size, steps) < 1:
        raise UserError("--images, --batch_size and --steps: expected at least 1")
    loaded = load(checkpoint)
    network: Any = loaded.network
    chosen = {}
    if network.steps is not None:
        network.steps = chosen["steps"] = steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seconds = seconds_per_thousand(network, images, batch_size)
    size = "x".join(map(str, network.image_shape[1:]))
    settings: dict[str, Any] = {
        "model": type(network).__name__,
        "size": size,
        "images": images,
        "batch_size": batch_size,
    }
    settings |= {"weights": loaded.digest, "threads": torch.get_num_threads()} | chosen
    values = {"seconds per 1000 images": seconds}
    subject = Path(checkpoint).stem
    yield Measurement(question="speed_sampling", subject=subject, settings=settings, values=values, **stamp())


def seconds_per_thousand(
    network: LikelihoodModel, images: int = 64, batch_size: int = 16, warm_up: int = 1, **options: Any
) -> float:
    """Seconds per 1000 images, as Luhman & Luhman (2023, Table 4) state it.

    Args:
        network: the model, on the device it is to be timed on.
        images: drawn and timed; the result is scaled to 1000.
        batch_size: images drawn at once.
        warm_up: batches drawn before the clock starts.
        options: further arguments of `network.sample`, such as `label` (one batch of them) and guidance weights.

    Returns:
        Wall time in seconds, the device synchronised at both ends.
    """
    batches = max(1, -(-images // batch_size))
    with torch.inference_mode():
        for _ in range(warm_up):
            network.sample(batch_size, **options)
        _synchronise()
        start = time.perf_counter()
        for _ in range(batches):
            network.sample(batch_size, **options)
        _synchronise()
    return (time.perf_counter() - start) / (batches * batch_size) * 1000.0


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
