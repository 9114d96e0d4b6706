"""Noise schedules of diffusion models: the variance of the estimated bound, learned against linear."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, word
from zoo.benchmarks.tables import kingma2021
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell

VALUES = (
    *(
        "gamma_0",
        "gamma_1",
        "alpha_cosine_variance",
        "beta_linear_variance",
        "linear_variance",
        "own_variance",
        "ratio",
    ),
    *("linear_variance_over_time", "own_variance_over_time"),
)
SHOWN = ("checkpoint", "dataset", "split", "bits", "trained_schedule")


def build(records: Sequence[Line], references: References) -> Table:
    """Variance of the estimated bound by schedule, published beside measured.

    Args:
        records: stored lines.
        references: published variances.
    """
    lines = about(records, "schedules")
    published = kingma2021.schedules(references, joined(records, references))
    return Table(
        name="schedules",
        title="Noise schedules: variance of the bound estimated from one time",
        intro=[
            "(bits/dim)², over images, uniform times and noise. All columns of a row price the same images with the "
            "same network and the same end points; only the interior of the schedule differs, on which the bound "
            "itself does not depend.",
        ],
        sections=[published, *([_measured(lines)] if lines else [])],
        marks=MARKS,
        notes=["The published column is about another network and other images: compare ratios, not values."],
    )


def _measured(lines: Sequence[Measurement]) -> Section:
    """The latest line of every checkpoint and data set."""
    newest = {tuple(line.settings.get(name) for name in SHOWN): line for line in lines}
    names = ("checkpoint", "trained with", "data", "bits")
    columns = [Column(name, numeric=False) for name in names]
    columns += [Column(name) for name in ("gamma(0)", "gamma(1)", "variance, cosine", "variance, beta-linear")]
    columns += [Column(name) for name in ("variance, linear", "variance, own", "linear / own")]
    columns += [Column("over time alone, linear"), Column("over time alone, own")]
    rows = []
    for (checkpoint, data, split, bits, schedule), line in newest.items():
        cells = [word(str(checkpoint)), word(str(schedule)), word(f"{data}/{split}"), word(str(bits))]
        rows.append([*cells, *(line_cell(line, name, 2, why="not asked for when it was measured") for name in VALUES)])
    return Section("Measured", columns, rows)
