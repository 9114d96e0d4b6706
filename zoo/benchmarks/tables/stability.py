"""Gradient smoothing: bound and skipped updates with and without it, at several batch sizes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Line, Measurement, Record, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

if TYPE_CHECKING:
    from zoo.benchmarks.measures.small_runs import Run

LN2 = 0.6931472
THRESHOLD = 200.0
SPIKE = 5.0  # a gradient norm this many times the median of its run, since smoothing changes the scale of gradients
BATCH_SIZES = [4, 8, 32]
DIVERGED = Cell("diverged")


def build(
    records: Sequence[Line],
    references: References,
    *,
    measure: bool = False,
    dataset: str = "photos",
    steps: int = 500,
    batch_sizes: list[int] = BATCH_SIZES,
    threshold: float = THRESHOLD,
    lr: float = 4e-3,
    seed: int = 0,
    limit: int | None = None,
    save: str = "records/stability.jsonl",
) -> Table:
    """Skipped updates and bits/dim with and without gradient smoothing, published beside measured.

    Args:
        records: stored lines.
        references: published numbers.
        measure: train a small network now, with and without smoothing at every batch size.
        dataset: what to train and price on.
        steps: optimiser steps of each training.
        batch_sizes: images per step.
        threshold: an update whose gradient norm (nats/dim) reaches this is skipped.
        lr: peak learning rate; higher than the published one, since a small network is stable at that.
        seed: of weights, data order and noise.
        limit: price at most this many images of the test file.
        save: file that measured lines are appended to.
    """
    lines = [line for line in of_kind(records, Measurement) if line.table == "stability"]
    if measure:
        for batch_size in batch_sizes:
            for smoothing in (False, True):
                options = {"batch_size": batch_size, "steps": steps, "threshold": threshold, "lr": lr}
                line = _measure(smoothing, dataset=dataset, seed=seed, limit=limit, **options)
                store.append(Path(save), line)
                lines.append(line)
    return Table(
        name="stability",
        title="Gradient smoothing: softplus standard deviations with beta below 1",
        intro=[
            "Hazami et al. (2022), section 5. A skipped update is one whose gradient norm (of the nats/dim loss) "
            "reaches the threshold; weights and moments then stay as they are."
        ],
        sections=[*_published(references), *_measured(lines)],
        notes=[
            "Published runs are hundreds of thousands of steps of full-size networks; ours are short and small.",
            f"Spikes: steps whose gradient norm is at least {SPIKE:g} times the median of their run.",
        ],
    )


def network(beta: float, bits: int = 8, **options: Any) -> dict[str, Any]:
    """Spec of the small network the short trainings use: 7 stochastic layers, 32x32.

    Args:
        beta: gradient smoothing of latents and output, 1 = none.
        bits: depth it prices.
        options: further arguments of `EfficientVDVAE`.
    """
    up = [
        {"width": 16, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 32, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 48, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 48, "blocks": [1], "ratio": 0.5},
    ]
    down = [
        {"width": 48, "blocks": [1], "ratio": 0.5, "latents": 8},
        {"width": 48, "blocks": [2], "ratio": 0.5, "latents": 8, "stride": 2},
        {"width": 32, "blocks": [3], "ratio": 0.5, "latents": 8, "stride": 2},
        {"width": 16, "blocks": [1], "ratio": 0.5, "latents": 4, "stride": 2},
    ]
    arguments = {"image_shape": [3, 32, 32], "bits": bits, "bottom_up": up, "top_down": down, "mixtures": 3}
    arguments |= {"latent_beta": beta, "output_beta": beta, "schedule": {"steps": 200, "balance_steps": 200}}
    return {"class_path": "zoo.models.EfficientVDVAE", "init_args": {**arguments, **options}}


def _measure(
    smoothing: bool,
    *,
    dataset: str,
    steps: int,
    batch_size: int,
    threshold: float,
    lr: float,
    seed: int,
    limit: int | None,
) -> Measurement:
    """One training and its price on the test split."""
    from zoo.benchmarks.measures.small_runs import price, train  # Lightning takes seconds to import

    beta = LN2 if smoothing else 1.0
    run = train(
        network(beta),
        dataset=dataset,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        optimizer="adamax",
        lr=lr,
        warmup_steps=50,
        skip_norm=threshold,
        max_consecutive_skips=steps,
    )
    record = None if run.diverged else price(run, dataset, seed=seed, limit=limit)
    settings = {"batch_size": batch_size, "steps": steps, "threshold": threshold, "lr": lr, "seed": seed}
    return Measurement(
        table="stability",
        subject="Efficient-VDVAE, 7 layers",
        settings={"gradient_smoothing": smoothing, "beta": beta, **settings, "dataset": dataset},
        values=_values(run, record),
        seconds=round(run.seconds, 3),
        **store.stamp(),
    )


def _values(run: Run, record: Record | None) -> dict[str, float]:
    """Numbers of a training; without bits/dim if it diverged."""
    finite = [norm for norm in run.norms if math.isfinite(norm)]
    values = {"skipped_updates": float(run.skipped), "diverged": float(record is None)}
    if finite:
        middle = statistics.median(finite)
        values |= {"largest_norm": max(finite), "median_norm": middle, "steps": float(len(run.norms))}
        values["spikes"] = float(sum(norm >= SPIKE * middle for norm in run.norms) + len(run.norms) - len(finite))
    if record is not None:
        values |= {"bits_per_dim": record.bits_per_dim, "standard_error": record.standard_error}
        values["images"] = record.images
    return values


_TITLES = {
    "2a": "Published, Table 2a: CIFAR-10, 500,000 steps, skipped from 800",
    "2b": "Published, Table 2b: 1024x1024, beta 0.4, 80,000 steps, skipped from 1,200",
    "7": "Published, Table 7: FFHQ 256x256, 8 bits, batch size 8, 800,000 steps",
}


def _published(references: References) -> list[Section]:
    """Tables 2a, 2b and 7 of the paper, one row per run, with and without smoothing side by side."""
    sections = []
    for table, title in _TITLES.items():
        rows: dict[str, dict[tuple[str, bool], Reference]] = {}
        for reference in references.select(source="efficient_vdvae", table=table):
            if reference.metric in ("nll", "skipped_updates"):
                key = (reference.metric, bool(reference.settings["gradient_smoothing"]))
                rows.setdefault(_row_name(reference), {})[key] = reference
        if rows:
            cells = [[word(name), *_cells(found, table)] for name, found in rows.items()]
            sections.append(Section(title, _columns("run"), cells))
    return sections


def _row_name(reference: Reference) -> str:
    if reference.table == "2a":
        return f"batch size {reference.settings['batch_size']}"
    if reference.table == "7":
        return f"depth {reference.settings['depth']}"
    return reference.dataset


def _columns(first: str) -> list[Column]:
    names = ("skipped, without", "skipped, with", "bits/dim, without", "bits/dim, with")
    return [Column(first, numeric=False), *(Column(name) for name in names)]


def _cells(found: dict[tuple[str, bool], Reference], table: str) -> list[Cell]:
    """Skipped updates and bits/dim; the runs of Table 2b without smoothing diverged."""
    cells = []
    for metric, digits in (("skipped_updates", 0), ("nll", 2)):
        for smoothing in (False, True):
            reference = found.get((metric, smoothing))
            if reference is None and table == "2b" and not smoothing:
                cells.append(DIVERGED)
            else:
                cells.append(number(reference.value if reference else None, digits, NOT_PUBLISHED))
    return cells


def _measured(lines: Sequence[Measurement]) -> list[Section]:
    """The latest line of every setting, with and without smoothing side by side."""
    groups: dict[tuple[Any, ...], dict[tuple[int, bool], Measurement]] = {}
    for line in lines:
        s = line.settings
        key = tuple(s[name] for name in ("dataset", "steps", "threshold", "lr", "seed"))
        groups.setdefault((line.subject, *key), {})[int(s["batch_size"] or 0), bool(s["gradient_smoothing"])] = line
    sections = []
    for (subject, dataset, steps, threshold, lr, seed), group in groups.items():
        names = [f"{name}, {which}" for name in ("spikes", "median norm", "largest norm") for which in _WHICH]
        columns = [*_columns("run"), *(Column(name) for name in names)]
        rows = []
        for size in sorted({size for size, _ in group}):
            pair = [group.get((size, smoothing)) for smoothing in (False, True)]
            cells = [_value(line, name, digits) for name, digits in _SHOWN for line in pair]
            rows.append([word(f"batch size {size}"), *cells])
        title = f"Measured: {subject}, {dataset}, 32x32, 8 bits, {steps:,} steps, skipped from {threshold:g}"
        note = f"Adamax, learning rate {lr:g}, seed {seed}; bits/dim of the test split with averaged weights."
        sections.append(Section(title, columns, rows, note))
    return sections


_WHICH = ("without", "with")
_SHOWN = (("skipped_updates", 0), ("bits_per_dim", 3), ("spikes", 0), ("median_norm", 1), ("largest_norm", 1))


def _value(line: Measurement | None, name: str, digits: int) -> Cell:
    if line is not None and name == "bits_per_dim" and line.values.get("diverged"):
        return DIVERGED
    return number(None if line is None else line.values.get(name), digits)
