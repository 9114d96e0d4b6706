"""Real files of a model beside the estimate for the same images, as fields of a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.benchmarks.measures.evaluator import Evaluation, Settings, evaluate
from zoo.benchmarks.measures.identity import describe
from zoo.benchmarks.records import Record
from zoo.checkpoints.store import Loaded, load
from zoo.data import open_split
from zoo.errors import UserError
from zoo.likelihood import AncestralModel

ENDLESS = 1 << 20  # tiles
PASSES = 4  # draws of the estimate that the files are held against


def code_tiles(loaded: Loaded, tiles: Tensor, steps: int = 0, batch_size: int = 16) -> dict[str, Any]:
    """Encode tiles, decode them, and price the same tiles.

    Args:
        loaded: a checkpoint.
        tiles: (N, C, H, W) uint8 of the model's size.
        steps: number of steps of a model that has the choice; the estimate is then that of the same number.
        batch_size: tiles coded at once.

    Returns:
        The fields `coded_*`, `encode_rate`, `decode_rate` and `note` of a record.

    Raises:
        UserError: the model cannot code, or a decoded tile differs from the original.
    """
    from zoo.codec import Options, measure

    stepped = steps > 0 and loaded.ancestral.steps is not None
    if stepped:
        loaded = load(loaded.path)
        loaded.ancestral.steps = steps
    # With many steps the initial bits of one batch exceed all tiles here; a plan that avoids them would cost net bits.
    options = Options(batch_size, chained=True, horizon=ENDLESS if stepped else None)
    found = measure(loaded.ancestral, loaded.identity, tiles, options)
    if not found.exact:
        raise UserError("a decoded tile differs from the original")
    expected = estimate(loaded.ancestral, tiles, steps)
    name = f"{loaded.path.stem}: files are those of the {steps}-step model, whose estimate is {expected:.3f} bits/dim."
    return {
        "note": name if stepped else "",
        "coded_net": found.report.net,
        "coded_gross": found.report.gross,
        "coded_images": found.images,
        "coded_estimate": expected,
        "coded_bound": found.report.bound,
        "encode_rate": found.images / found.encode_seconds,
        "decode_rate": found.images / found.decode_seconds,
    }


def estimate(network: AncestralModel, tiles: Tensor, steps: int = 0) -> float:
    """Bits/dim of these tiles by the evaluator, averaged over several draws."""
    several = steps > 0 and network.steps is not None
    evaluation = Evaluation(network, Settings(PASSES, estimator=f"steps-{steps}" if several else ""))
    for indices in torch.arange(len(tiles)).split(32):
        evaluation.update(tiles[indices], None, indices.tolist())
    return evaluation.summary().bits_per_dim


def measure(checkpoint: str, dataset: str = "photos", tiles: int = 0, steps: int = 50) -> Iterator[Record]:
    """Price the test split with a checkpoint, code it into real files, and decode them again.

    Args:
        checkpoint: path or shipped name.
        dataset: whose test split is priced and coded.
        tiles: code only the first so many; 0 = all.
        steps: steps of a model that has the choice (VDM).

    Raises:
        UserError: the model prices codes, not pixels.
    """
    loaded = load(checkpoint)
    network: Any = loaded.network
    if network.priced != "pixels":
        raise UserError(f"{checkpoint}: prices codes, not pixels, and writes no files; `zoo measure codes` prices it")
    loader = open_split(dataset, "test", network.image_shape, loaded.data)
    record = evaluate(network, loader, **describe(loaded))
    count = min(tiles or record.images, record.images)
    x, _ = loader.first(count)
    try:
        record = dataclasses.replace(record, **code_tiles(loaded, x, steps))
    except UserError as error:
        record = dataclasses.replace(record, note=f"{record.config}: not coded, {error}")
    yield record
