"""Proof in bytes for a batch of images: encode, decode, compare, time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from zoo.codec.decoding import decode
from zoo.codec.images import from_batch
from zoo.codec.stream import Options, Report, encode
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
    options: Options = Options(batch_size=16, chained=True),  # noqa: B008 (frozen)
) -> Measurement:
    """Send images through the codec and back.

    Args:
        model: in eval mode.
        identity: 12 bytes that name spec and weights (`Loaded.identity`).
        x: (N, C, H, W) uint8; reduced to the model's bits first.
        options: as in `encode`.
    """
    images = from_batch(from_levels(to_levels(x, model.bits), model.bits))
    start = time.perf_counter()
    data, report = encode(model, identity, images, options)
    middle = time.perf_counter()
    decoded = {entry.name: pixels for entry, _, pixels in decode(model, identity, data, "memory")}
    end = time.perf_counter()
    exact = all(np.array_equal(decoded[image.entry.name], image.load(0)) for image in images)
    return Measurement(report, exact, middle - start, end - middle, len(images))
