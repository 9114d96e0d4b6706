"""Noise schedules of diffusion models: the variance of the estimated bound, learned against linear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Line, Measurement, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, number, word
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.benchmarks.measures.variance import Variance

POINTS = 50
SHOWN = ("checkpoint", "dataset", "split", "bits", "trained_schedule")


def build(
    records: Sequence[Line],
    references: References,
    *,
    checkpoint: str | None = None,
    dataset: str = "photos",
    split: str = "test",
    images: int = 64,
    seed: int = 0,
    save: str = "records/schedules.jsonl",
    plot: str | None = None,
) -> Table:
    """Variance of the estimated bound by schedule, published beside measured.

    Args:
        records: stored lines.
        references: published variances.
        checkpoint: measure this diffusion checkpoint now (path or shipped name).
        dataset: what to measure on.
        split: split whose first images are used.
        images: how many.
        seed: of the noise.
        save: file the measurement is appended to.
        plot: with `checkpoint`, PNG file for schedule and loss over time, side by side.
    """
    lines = [line for line in of_kind(records, Measurement) if line.table == "schedules"]
    if checkpoint is not None:
        line = measure(checkpoint, dataset=dataset, split=split, images=images, seed=seed, plot=plot)
        store.append(save, line)
        lines.append(line)
    elif plot is not None:
        raise UserError("--plot: give --checkpoint CKPT as well")
    return Table(
        name="schedules",
        title="Noise schedules: variance of the bound estimated from one time",
        intro=[
            "(bits/dim)², over images, uniform times and noise. Both columns of a row price the same images with the "
            "same network and the same end points; only the interior of the schedule differs, on which the bound "
            "itself does not depend.",
        ],
        sections=[_published(references), *([_measured(lines)] if lines else [])],
        notes=["The published column is about another network and other images: compare ratios, not values."],
    )


def measure(
    checkpoint: str | Path,
    *,
    dataset: str = "photos",
    split: str = "test",
    images: int = 64,
    seed: int = 0,
    plot: str | None = None,
) -> Measurement:
    """Variance of one checkpoint's estimate, under its own schedule and under the line with the same ends.

    Raises:
        UserError: the checkpoint is no diffusion model.
    """
    import torch

    from zoo.benchmarks.measures.evaluator import describe_split
    from zoo.benchmarks.measures.variance import variance_ratio
    from zoo.checkpoints import load
    from zoo.checkpoints.store import experiment_name
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
        linear, own = variance_ratio(model, x, POINTS)
        if plot is not None:
            _draw(model, x, plot)
    settings = {
        "checkpoint": experiment_name(loaded.path),
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
    return Measurement(
        table="schedules", subject="VDM", settings=settings, values=_values(ends, linear, own), **store.stamp()
    )


def _values(ends: list[float], linear: Variance, own: Variance) -> dict[str, Any]:
    """What a measurement holds: the ends of the schedule, and both variances with their course over time."""
    return {
        "gamma_0": ends[0],
        "gamma_1": ends[1],
        "linear_variance": linear.total,
        "own_variance": own.total,
        "ratio": linear.total / own.total,
        "linear_variance_over_time": linear.times,
        "own_variance_over_time": own.times,
    }


def _draw(model, x, path: str) -> None:  # noqa: ANN001 (torch is imported late)
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


def _published(references: References) -> Section:
    rows = [[word(n.settings["schedule"]), number(n.value, 2)] for n in references.select(metric="variance")]
    columns = [Column("schedule", numeric=False), Column("variance")]
    return Section("Published: VDM on CIFAR-10, 8 bits (Kingma et al. 2021)", columns, rows)


def _measured(lines: Sequence[Measurement]) -> Section:
    """The latest line of every checkpoint and data set."""
    newest = {tuple(line.settings.get(name) for name in SHOWN): line for line in lines}
    names = ("checkpoint", "trained with", "data", "bits")
    columns = [Column(name, numeric=False) for name in names]
    columns += [Column(name) for name in ("gamma(0)", "gamma(1)", "variance, linear", "variance, own", "ratio")]
    columns += [Column("over time alone, linear"), Column("over time alone, own")]
    rows = []
    for (checkpoint, data, split, bits, schedule), line in newest.items():
        v = line.values
        cells = [word(str(checkpoint)), word(str(schedule)), word(f"{data}/{split}"), word(str(bits))]
        cells += [number(v["gamma_0"], 2), number(v["gamma_1"], 2), number(v["linear_variance"], 2)]
        cells += [number(v["own_variance"], 2), number(v["ratio"], 2)]
        rows.append([*cells, number(v["linear_variance_over_time"], 2), number(v["own_variance_over_time"], 2)])
    return Section("Measured", columns, rows)
