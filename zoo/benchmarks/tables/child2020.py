"""Results of VDVAE (Child 2020): the paper's list and what the released weights should print, beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Section, Table
from zoo.benchmarks.tables.printed import printed
from zoo.benchmarks.tables.shared import MARKS, joined


def build(records: Sequence[Line], references: References) -> Table:
    """The paper's results and the read-me of the released code.

    Args:
        records: stored lines; those that reproduce rows of the paper are shown beside them.
        references: published numbers.
    """
    found = joined(records, references)

    def images(number: Reference) -> str:
        seed = f", seed {number.settings['seed']}" if "seed" in number.settings else ""
        return f"{number.dataset} {number.resolution}x{number.resolution}, {number.bits} bits{seed}"

    def section(title: str, digits: int, **where: str) -> Section:
        return printed(references, found, title, {"nll": ("bits/dim", digits)}, where, name=images)

    nats = "What the released weights should print, nats/dim as bits/dim"
    seeds = "The four released seeds of CIFAR-10; the paper prints their mean, 2.87"
    return Table(
        name="child2020",
        title="VDVAE (Child 2020)",
        intro=["Published numbers link to their source, measured ones to their record."],
        sections=[
            section("Results of the paper", 2, source="vdvae_page"),
            section(nats, 3, source="vdvae_repo", unit="nats/dim"),
            section(seeds, 3, source="vdvae_repo", unit="bits/dim"),
        ],
        marks=MARKS,
    )
