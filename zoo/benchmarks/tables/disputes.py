"""Where published sources disagree, and how this project reads them."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, word


def build(records: Sequence[Line], references: References) -> Table:
    """What the sources say, and our reading.

    Args:
        records: not used.
        references: published numbers and disputes.
    """
    columns = [Column(name, numeric=False) for name in ("about", "sources say", "our reading")]
    rows = [[word(d.what, refs=(d.id,)), word(d.sources_say), word(d.reading)] for d in references.disputes]
    return Table(
        name="disputes", title="Where sources disagree", sections=[Section("Disputes", columns, rows)], expects=""
    )
