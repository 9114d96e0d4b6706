"""A table of one's own: the best measured bits/dim of every data set and depth.

zoo bench --table best --plugins best_table
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Record, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, number, word
from zoo.benchmarks.tables import TABLES, TableInfo


def build(records: Sequence[Line], references: References, *, bits: int | None = None) -> Table:
    """The best measured number of every data set.

    Args:
        records: stored lines.
        references: published numbers, not needed here.
        bits: only this depth.
    """
    best: dict[tuple[str, int], Record] = {}
    for record in of_kind(records, Record):
        key = (record.dataset, record.bits)
        if record.priced == "pixels" and (key not in best or record.bits_per_dim < best[key].bits_per_dim):
            best[key] = record
    rows = [
        [word(name), number(depth, 0), word(found.config), number(found.bits_per_dim)]
        for (name, depth), found in sorted(best.items())
        if bits in (None, depth)
    ]
    columns = [Column("data set"), Column("bits"), Column("experiment"), Column("bits/dim")]
    return Table(
        name="best",
        title="The best measured number",
        sections=[Section("", columns, rows)],
        expects="records of `zoo test`",
    )


TABLES["best"] = TableInfo("best_table", "the best measured bits/dim of every data set")
