"""Speed of drawing images: seconds per 1000 images of every model, and what the cache of the PixelSNAIL walk saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables import luhman2023
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell


def build(records: Sequence[Line], references: References) -> Table:
    """Seconds per 1000 images, published beside measured, and the cached walk of PixelSNAIL against recomputing.

    Args:
        records: stored lines; those of `zoo measure speed_sampling` and `speed_walk` are shown.
        references: published times.
    """
    sampled, walked = about(records, "speed_sampling"), about(records, "speed_walk")
    published = luhman2023.sections(references, joined(records, references), "Table 4")
    return Table(
        name="speed_sampling",
        title="Speed of drawing images",
        sections=[*published, *_sampled(sampled), *_walked(walked)],
        marks=MARKS,
        notes=[
            "Machines, image sizes and guidance differ between the sections: compare within one only.",
            "Cached walk: processor seconds of one batch. Rows: each symbol of row i recomputes rows 0 to i, as the "
            "public implementation does; whole grid: each symbol recomputes everything. Both are summed from timed "
            "passes.",
        ],
    )


def _newest(lines: Sequence[Measurement]) -> list[Measurement]:
    """The newest line of each network and batch size."""
    return list({(line.subject, line.settings["batch_size"]): line for line in lines}.values())


def _sampled(lines: Sequence[Measurement]) -> Iterator[Section]:
    """Whole models."""
    if lines:
        columns = [Column("checkpoint", numeric=False), Column("images", numeric=False), Column("s per 1000 images")]
        columns += [Column("steps"), Column("batch"), Column("threads")]
        yield Section("Measured here: whole models", columns, [_sampling_row(line) for line in _newest(lines)])


def _walked(lines: Sequence[Measurement]) -> Iterator[Section]:
    """PixelSNAIL with and without the cache."""
    if lines:
        columns = [
            Column("network", numeric=False),
            Column("parameters"),
            Column("grid", numeric=False),
            Column("batch"),
        ]
        columns += [Column("cached, s"), Column("rows, s"), Column("whole grid, s"), Column("rows / cached")]
        columns += [Column("whole / cached"), Column("threads")]
        yield Section(
            "Measured here: PixelSNAIL, cached against recomputed",
            columns,
            [_walk_row(line) for line in _newest(lines)],
        )


def _sampling_row(line: Measurement) -> list[Cell]:
    settings = line.settings
    return [
        word(line.subject),
        word(str(settings["size"])),
        line_cell(line, "seconds per 1000 images", 1),
        number(_whole(settings.get("steps")), 0, "-"),
        number(_whole(settings["batch_size"]), 0),
        number(_whole(settings["threads"]), 0),
    ]


def _walk_row(line: Measurement) -> list[Cell]:
    settings, values = line.settings, line.values
    return [
        word(line.subject),
        number(_whole(settings["parameters"]), 0),
        word(str(settings["grid"])),
        number(_whole(settings["batch_size"]), 0),
        line_cell(line, "cached", 2),
        line_cell(line, "rows", 1),
        line_cell(line, "whole", 1),
        number(values["rows"] / values["cached"], 0),
        number(values["whole"] / values["cached"], 0),
        number(_whole(settings["threads"]), 0),
    ]


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
