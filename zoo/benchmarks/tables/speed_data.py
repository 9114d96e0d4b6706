"""Speed of the data path: random reads of prepared files beside `np.memmap`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import NOT_PUBLISHED, Column, Section, Table, number, word

COLUMNS = {"images/s": 0, "MB/s": 0, "CPU us/image": 2, "share of np.memmap": 2}


def build(records: Sequence[Line], references: References) -> Table:
    """Random reads of prepared files, from a warm page cache, in batches of 64.

    Args:
        records: stored lines; those of `zoo measure speed_data` are shown.
        references: not used.
    """
    groups: dict[tuple[object, object], dict[str, Measurement]] = {}
    for line in about(records, "speed_data"):
        groups.setdefault((line.settings["side"], line.settings["images"]), {})[line.subject] = line
    return Table(
        name="speed_data",
        expects="`zoo measure speed_data` measures this machine",
        title="Data path: random reads, batches of 64, warm page cache",
        sections=[_section(key, list(group.values())) for key, group in groups.items()],
        notes=[
            "`np.memmap` reads a bare array file; the others a prepared file.",
            "images/s is the fastest pass by the clock; the share compares the least CPU time per image, which other "
            "programs on the machine disturb less.",
            "Loader rows end in torch tensors (B, C, H, W) and include drawing the order of the epoch.",
            "`zoo measure speed_data` measures this machine.",
        ],
    )


def _section(key: tuple[object, object], lines: Sequence[Measurement]) -> Section:
    """All ways of reading images of one size."""
    side, images = key
    columns = [Column("reading", numeric=False), *(Column(name) for name in COLUMNS)]
    rows = [
        [word(line.subject), *(number(line.values.get(name), d, NOT_PUBLISHED) for name, d in COLUMNS.items())]
        for line in lines
    ]
    return Section(f"{side}x{side}x3, {images:,} images", columns, rows)
