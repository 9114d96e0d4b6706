"""Speed of coding: megapixels per second of every model beside classical codecs, and the share outside the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.benchmarks.measures.baselines import available, code_file, montage
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, SamplePosterior, from_levels, to_levels


def measure(
    checkpoint: str = "", images: int = 64, batch_size: int = 64, steps: int = 20, repeats: int = 2
) -> Iterator[Measurement]:
    """Processor seconds to price, encode and decode the bundled test photographs.

    Args:
        checkpoint: path or shipped name; empty times PNG, WebP and JPEG XL on one picture of all photographs.
        images: photographs of 64x64 pixels.
        batch_size: most tiles at once.
        steps: steps of a diffusion model.
        repeats: passes of which the fastest counts.
    """
    from zoo.data import open_split

    if min(images, batch_size, steps, repeats) < 1:
        raise UserError("--images, --batch_size, --steps and --repeats: expected at least 1")
    loader = open_split("photos", "test", (3, 64, 64), limit=images)
    x = loader.read(list(range(min(images, loader.plan.num_samples))))[0]
    if checkpoint:
        yield _model(checkpoint, x, batch_size, steps, repeats)
        return
    pixels = montage(x.permute(0, 2, 3, 1).numpy())  # (N, C, H, W) -> one (H, W, C)
    for codec in available():
        coded = [code_file(codec, pixels) for _ in range(repeats)]
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        values = {
            "encode MP/s": megapixels / min(c.encode for c in coded),
            "decode MP/s": megapixels / min(c.decode for c in coded),
            "bits/dim": 8.0 * coded[0].size / pixels.size,
        }
        settings: dict[str, Any] = {"images": len(x), "how": codec.how}
        yield Measurement(question="speed_codec", subject=codec.name, settings=settings, values=values, **stamp())


def _model(checkpoint: str, x: Tensor, batch_size: int, steps: int, repeats: int) -> Measurement:
    from zoo.checkpoints import load

    loaded = load(checkpoint)
    network = loaded.network
    if not isinstance(network, AncestralModel) or network.priced != "pixels":
        raise UserError(f"{checkpoint}: {type(network).__name__} cannot code images")
    if network.steps is not None:
        network.steps = steps
    x = from_levels(to_levels(x, network.bits), network.bits)
    batches = tiles_of(x, network.image_shape[1]).split(batch_size)
    with torch.inference_mode():
        price = _best(lambda: [network.terms(batch) for batch in batches], repeats)
        network_alone = _best(lambda: [network.ancestral_pass(SamplePosterior(), b) for b in batches], repeats)
    writing, reading, gross = _round_trip(network, loaded.identity, x, batch_size, repeats)
    megapixels = x.shape[0] * x.shape[2] * x.shape[3] / 1e6
    values = {
        "encode MP/s": megapixels / writing,
        "decode MP/s": megapixels / reading,
        "encode / terms": writing / price,
        "decode / terms": reading / price,
        "encode outside the network": max(0.0, 1.0 - network_alone / writing),
        "bits/dim": gross,
    }
    settings: dict[str, Any] = {"images": len(x), "batch_size": batch_size, "threads": torch.get_num_threads()}
    settings |= {} if network.steps is None else {"steps": steps}
    return Measurement(
        question="speed_codec", subject=Path(checkpoint).stem, settings=settings, values=values, **stamp()
    )


def _round_trip(
    network: AncestralModel, identity: bytes, x: Tensor, batch_size: int, repeats: int
) -> tuple[float, float, float]:
    """Seconds to write and to read a file of these pictures (N, C, H, W), and its bits/dim."""
    from zoo.codec import Options, decode, encode, from_batch

    pictures = from_batch(x)
    data, report = encode(network, identity, pictures, Options(batch_size))

    def read() -> None:
        for number, (_, _, back) in enumerate(decode(network, identity, data, "memory")):
            if not np.array_equal(back, x[len(x) - 1 - number].numpy()):
                raise UserError("a decoded picture differs from the original")

    writing = _best(lambda: encode(network, identity, pictures, Options(batch_size)), repeats)
    return writing, _best(read, repeats), report.gross


def tiles_of(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> all (n, C, side, side) tiles, those at the edge that are not whole left out."""
    tiles = x.unfold(2, side, side).unfold(3, side, side)  # (N, C, h, w, side, side)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).contiguous()


def _best(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)
