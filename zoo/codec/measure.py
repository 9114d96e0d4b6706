"""Proof in bytes for a batch of images: encode, decode, compare, time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from zoo.codec.images import from_batch
from zoo.codec.stream import Report, decode, encode
from zoo.likelihood import AncestralModel, from_levels, to_levels


@dataclass(frozen=True)
class Measurement:
    """What a round trip through bytes showed.

    Attributes:
        report: sizes and bound, see `Report`.
        exact: every decoded image equals the original (reduced to the model's bits).
        encode_seconds: wall time, choice of the plan included.
        decode_seconds: wall time.
        images: how many.
    """

    report: Report
    exact: bool
    encode_seconds: float
    decode_seconds: float
    images: int


def measure(
    model: AncestralModel,
    identity: bytes,
    x: Tensor,
    batch_size: int = 16,
    chained: bool | None = True,
    seed: int = 0,
    horizon: int | None = None,
) -> Measurement:
    """Send images through the codec and back.

    Args:
        model: in eval mode.
        identity: 12 bytes that name spec and weights (`Loaded.identity`).
        x: (N, C, H, W) uint8; reduced to the model's bits first.
        batch_size: tiles at once.
        chained: as in `encode`.
        seed: of the shared generator.
        horizon: as in `encode`.
    """
    images = from_batch(from_levels(to_levels(x, model.bits), model.bits))
    start = time.perf_counter()
    data, report = encode(model, identity, images, batch_size, chained, seed, horizon=horizon)
    middle = time.perf_counter()
    decoded = {name: pixels for name, _, pixels in decode(model, identity, data, "memory")}
    end = time.perf_counter()
    exact = all(np.array_equal(decoded[image.name], image.load()) for image in images)
    return Measurement(report, exact, middle - start, end - middle, len(images))
