"""Noise schedules of diffusion models: the variance of the estimated bound under the model's own and under others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Measurement
from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.benchmarks.measures.variance import Variance
    from zoo.models import VDM

POINTS = 50


def measure(
    checkpoint: str,
    dataset: str = "photos",
    split: str = "test",
    images: int = 64,
    seed: int = 0,
    plot: str | None = None,
) -> Iterator[Measurement]:
    """Variance of one checkpoint's estimate, under its own schedule and under three others with the same ends.

    Args:
        checkpoint: of a diffusion model: path or shipped name.
        dataset: what to measure on.
        split: split whose first images are used.
        images: how many.
        seed: of the noise.
        plot: PNG file for schedule and loss over time, side by side.

    Raises:
        UserError: the checkpoint is no diffusion model.
    """
    import torch

    from zoo.benchmarks.measures.identity import describe, describe_split
    from zoo.benchmarks.measures.variance import variances
    from zoo.checkpoints import load
    from zoo.data import open_split
    from zoo.models import VDM

    loaded = load(checkpoint)
    model = loaded.network
    if not isinstance(model, VDM):
        raise UserError(f"{checkpoint}: {type(model).__name__} has no noise schedule; give a VDM checkpoint")
    loader = open_split(dataset, split, model.image_shape, loaded.data)
    x, _ = loader.first(images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = variances(model, x, POINTS)
        if plot is not None:
            _draw(model, x, plot)
    settings = {
        "checkpoint": describe(loaded)["config"],
        "weights": loaded.digest,
        "dataset": describe_split(loader).dataset,
        "split": split,
        "images": len(x),
        "times": POINTS,
        "seed": seed,
        "bits": model.bits,
        "trained_schedule": str(loaded.spec["init_args"].get("schedule", {}).get("kind", "monotone")),
    }
    ends = [end.item() for end in model.schedule.ends()]
    yield Measurement(
        question="schedules", subject="VDM", settings=settings, values=_values(ends, found), **store.stamp()
    )


def _values(ends: list[float], found: dict[str, Variance]) -> dict[str, Any]:
    """What a measurement holds: the ends of the schedule, and both variances with their course over time."""
    return {
        "gamma_0": ends[0],
        "gamma_1": ends[1],
        "ratio": found["linear"].total / found["own"].total,
        **{f"{name}_variance": variance.total for name, variance in found.items()},
        **{f"{name}_variance_over_time": variance.times for name, variance in found.items()},
    }


def _draw(model: VDM, x: Tensor, path: str) -> None:
    """Schedule and loss over time, side by side."""
    from PIL import Image

    from zoo.files import atomic_path
    from zoo.models.vdm.figures import loss_chart, schedule_chart

    left = schedule_chart(model.schedule)
    right = loss_chart(model.compared_with_linear(x), x[0].numel())
    both = Image.new("RGB", (left.width + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    with atomic_path(path) as temporary:
        both.save(temporary, format="PNG")
    print(f"wrote {path}")
