"""Classifiers trained on samples, on reconstructions and on real images, tested on real ones (Razavi et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Table
from zoo.benchmarks.tables import razavi2019
from zoo.benchmarks.tables.measured import section
from zoo.benchmarks.tables.shared import MARKS, joined


def build(records: Sequence[Line], references: References) -> Table:
    """Classification accuracy score, published beside measured.

    Args:
        records: stored lines; those of `zoo measure accuracy` are shown.
        references: published numbers.
    """
    lines = about(records, "accuracy")
    digits = {"top1 %": 2, "top5 %": 2}
    return Table(
        name="accuracy",
        title="Classification accuracy score",
        intro=["A classifier trained on what a model makes and tested on real images: what is missing costs accuracy."],
        sections=[
            *section("Measured", lines, ("trained on", "images", "epochs"), digits),
            *razavi2019.sections(references, joined(records, references), "Table 2"),
        ],
        marks=MARKS,
    )
