"""Do samples copy training images? Distances to the nearest ones (Luhman and Luhman 2023, figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Table
from zoo.benchmarks.tables.measured import section


def build(records: Sequence[Line], references: References) -> Table:
    """Distance from samples, and from held-out images, to the nearest training images.

    Args:
        records: stored lines; those of `zoo measure neighbours` are shown.
        references: not used.
    """
    return Table(
        name="neighbours",
        title="Nearest training images of samples",
        intro=[
            "Distances of features. Samples that lie no nearer to the training images than held-out images do are no "
            "copies of them."
        ],
        sections=section("Measured", about(records, "neighbours"), ("extractor", "samples", "among"), {}),
        expects="`zoo measure neighbours CKPT` measures one, and draws the pairs",
    )
