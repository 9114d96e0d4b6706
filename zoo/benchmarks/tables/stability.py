"""Gradient smoothing: bound and skipped updates with and without it, at several batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

DIVERGED = Cell("diverged")


def build(records: Sequence[Line], references: References) -> Table:
    """Skipped updates and bits/dim with and without gradient smoothing, published beside measured.

    Args:
        records: stored lines.
        references: published numbers.
    """
    return Table(
        name="stability",
        title="Gradient smoothing: softplus standard deviations with beta below 1",
        intro=[
            "Hazami et al. (2022), section 5. A skipped update is one whose gradient norm (of the nats/dim loss) "
            "reaches the threshold; weights and moments then stay as they are."
        ],
        sections=[*_published(references), *_measured(about(records, "stability"))],
        notes=[
            "Published runs are hundreds of thousands of steps of full-size networks; ours are short and small.",
            "Spikes: steps whose gradient norm is at least 5 times the median of their run.",
        ],
    )


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
