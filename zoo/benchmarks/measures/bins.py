"""Prices the same weights under bins that meet and under the bins of the official code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Measurement, Record
from zoo.errors import UserError
from zoo.likelihood.levels import Bins

OFFICIAL: dict[str, Bins] = {"EfficientVDVAE": "efficient_vdvae", "VDVAE": "vdvae"}
"""Class name -> the bins under which its official code prices."""

BOUNDED = -7.0
"""Lower limit of the log scales from which on they count as bounded (Hazami et al. 2022, section 6)."""


def measure(checkpoint: str, dataset: str = "photos", seed: int = 0, limit: int | None = None) -> Iterator[Measurement]:
    """Price the same weights under bins that meet and under those of the official code.

    Args:
        checkpoint: of a VDVAE or an Efficient-VDVAE: path or shipped name.
        dataset: whose test split is priced.
        seed: of the noise.
        limit: price at most this many images of the file.

    Raises:
        UserError: the model has no official bins.
    """
    from zoo.benchmarks.measures.evaluator import Settings, evaluate
    from zoo.benchmarks.measures.identity import describe
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    name = type(loaded.network).__name__
    if name not in OFFICIAL:
        raise UserError(f"{checkpoint}: {name} has one bins only; give a VDVAE or Efficient-VDVAE checkpoint")
    found = []
    for bins in ("normalised", OFFICIAL[name]):
        loaded.model.bins = bins
        loader = open_split(dataset, "test", loaded.model.image_shape, loaded.data, limit)
        found.append(evaluate(loaded.model, loader, Settings(seed=seed), **describe(loaded)))
    floor = loaded.spec["init_args"].get("output", {}).get("min_log_scale", BOUNDED)
    limit_name = "bounded" if floor >= BOUNDED else "unbounded"
    settings = {"limit": limit_name, "trained_with": "as it was", "seed": seed, "weights": loaded.digest}
    yield line("bins", found[0].config, found[0], found[1], settings, found[0].seconds + found[1].seconds)


def line(
    question: str, subject: str, meeting: Record, official: Record | None, settings: dict[str, Any], seconds: float
) -> Measurement:
    """Both prices of the same weights as a stored line of a question."""
    values = {
        "bits_per_dim": meeting.bits_per_dim,
        "standard_error": meeting.standard_error,
        "rate": meeting.rate,
        "distortion": meeting.distortion,
        "images": meeting.images,
    }
    if official is not None:
        values |= {"official_bits_per_dim": official.bits_per_dim, "official_distortion": official.distortion}
    where = {"dataset": meeting.dataset, "dataset_digest": meeting.dataset_digest, "split": meeting.split}
    return Measurement(
        question=question,
        subject=subject,
        settings={"bits": meeting.bits, **settings, **where},
        values=values,
        seconds=round(seconds, 3),
        **store.stamp(),
    )
