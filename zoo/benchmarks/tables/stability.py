"""Gradient smoothing: bound and skipped updates with and without it, at several batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Cell, Column, Section, Table, word
from zoo.benchmarks.tables import hazami2022
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell

DIVERGED = Cell("diverged")


def build(records: Sequence[Line], references: References) -> Table:
    """Skipped updates and bits/dim with and without gradient smoothing, published beside measured.

    Args:
        records: stored lines.
        references: published numbers.
    """
    found = joined(records, references)
    published = [hazami2022.section(table, references, found) for table in ("2a", "2b", "7")]
    return Table(
        name="stability",
        title="Gradient smoothing: softplus standard deviations with beta below 1",
        intro=[
            "Hazami et al. (2022), section 5. A skipped update is one whose gradient norm (of the nats/dim loss) "
            "reaches the threshold; weights and moments then stay as they are."
        ],
        sections=[*published, *_measured(about(records, "stability"))],
        marks=MARKS,
        notes=[
            "Published runs are hundreds of thousands of steps of full-size networks; ours are short and small.",
            "Spikes: steps whose gradient norm is at least 5 times the median of their run.",
        ],
    )


def _columns(first: str) -> list[Column]:
    names = ("skipped, without", "skipped, with", "bits/dim, without", "bits/dim, with")
    return [Column(first, numeric=False), *(Column(name) for name in names)]


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
    return line_cell(line, name, digits)
