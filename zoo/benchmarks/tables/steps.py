"""Diffusion by number of steps: bits/dim and time, beside table 2 of Kingma et al. (2021)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Table
from zoo.benchmarks.tables import kingma2021
from zoo.benchmarks.tables.measured import section
from zoo.benchmarks.tables.shared import MARKS, joined
from zoo.pictures import Curve, Plot

SIZE = (640, 400)


def build(records: Sequence[Line], references: References) -> Table:
    """The bound of a diffusion model when it is priced, and coded, in fewer steps.

    Args:
        records: stored lines; those of `zoo measure steps` are shown.
        references: published numbers.
    """
    lines = about(records, "steps")
    names = ("bits_per_dim", "seconds per 1000 images")
    measured = section(
        "Measured",
        lines,
        ("bits", "passes"),
        {"steps": 0, "images": 0, "seconds per 1000 images": 1},
        plots=[_plot(lines, name) for name in names if any(name in line.values for line in lines)],
    )
    return Table(
        name="steps",
        title="Diffusion: bits/dim by number of steps",
        intro=["The continuous bound is the limit of many steps; a file is coded in as many as the model has."],
        sections=[*measured, kingma2021.by_steps(references, joined(records, references))],
        marks=MARKS,
    )


def _plot(lines: Sequence[Measurement], name: str) -> Plot:
    curves: dict[str, dict[float, float]] = {}
    for line in lines:
        if name in line.values:
            curves.setdefault(line.subject, {})[line.values["steps"]] = line.values[name]
    drawn = [Curve(subject, sorted(points.items())) for subject, points in curves.items()]
    return Plot(drawn, f"{name.replace('_', ' ')} by steps", "steps", name.replace("_", " "), log_x=True, size=SIZE)
