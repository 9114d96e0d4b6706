"""Steps of a diffusion model against bits/dim and against the seconds that drawing an image takes."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError

STEPS = [10, 30, 100, 250, 1000]


def measure(
    checkpoint: str,
    steps: list[int] = STEPS,
    dataset: str = "photos",
    split: str = "test",
    passes: int = 1,
    images: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Measurement]:
    """Bits/dim of the bound with T steps, and seconds to draw 1000 images in as many.

    Args:
        checkpoint: of a model whose number of steps may be chosen (VDM): path or shipped name.
        steps: numbers of steps.
        dataset: what is priced.
        split: which part.
        passes: draws of the noise averaged per image.
        images: drawn at once and timed; 0 = no timing.
        limit: price at most this many images of the file.
        seed: of the noise.

    Raises:
        UserError: the model has no choice of steps.
    """
    import torch

    from zoo.benchmarks.measures.evaluator import Settings, evaluate
    from zoo.benchmarks.measures.identity import describe
    from zoo.benchmarks.measures.sampling import seconds_per_thousand
    from zoo.checkpoints import load
    from zoo.data import open_split
    from zoo.likelihood import LikelihoodModel

    loaded = load(checkpoint)
    network = loaded.network
    if not isinstance(network, LikelihoodModel) or network.steps is None:
        raise UserError(f"{checkpoint}: {type(network).__name__} has no choice of steps; give a VDM checkpoint")
    for count in steps:
        loader = open_split(dataset, split, network.image_shape, loaded.data, limit)
        record = evaluate(network, loader, Settings(passes, 0, seed, f"steps-{count}"), **describe(loaded))
        values = {"steps": float(count), "images": record.images}
        values |= {name: getattr(record, name) for name in ("bits_per_dim", "standard_error", "rate", "distortion")}
        network.steps = count
        if images:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                values["seconds per 1000 images"] = seconds_per_thousand(network, images, images, warm_up=0)
        where = {"dataset": record.dataset, "dataset_digest": record.dataset_digest, "split": split}
        yield Measurement(
            question="steps",
            subject=record.config,
            settings={"steps": count, "bits": record.bits, "passes": passes, "weights": loaded.digest, **where},
            values=values,
            seconds=record.seconds,
            **stamp(),
        )
