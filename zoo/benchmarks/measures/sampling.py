"""Seconds that a model takes to draw images, every stage and the conversion to uint8 included."""

from __future__ import annotations

import time
from typing import Any

import torch

from zoo.likelihood import LikelihoodModel


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
