"""A section of measured lines as they are: one row each, what tells them apart, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.benchmarks.records import Measurement
from zoo.benchmarks.render import Column, Section
from zoo.benchmarks.tables.printed import setting_cell
from zoo.benchmarks.tables.shared import line_cell
from zoo.pictures import Plot


def section(
    title: str,
    lines: Sequence[Measurement],
    settings: Sequence[str],
    digits: Mapping[str, int],
    note: str = "",
    plots: Sequence[Plot] = (),
) -> list[Section]:
    """One row for each subject and settings, the newest line counts; nothing without lines.

    Args:
        title: heading.
        lines: of one question.
        settings: what tells the lines of a subject apart.
        digits: decimals of a value, by its name; others have three, whole numbers none.
        note: below the heading.
        plots: pictures below the rows.
    """
    newest = {(line.subject, *(str(line.settings.get(name)) for name in settings)): line for line in lines}
    if not newest:
        return []
    names = list(dict.fromkeys(name for line in newest.values() for name in line.values))
    rows = [
        [
            setting_cell(line.subject),
            *(setting_cell(line.settings.get(name)) for name in settings),
            *(line_cell(line, name, digits.get(name, 3)) for name in names),
        ]
        for line in newest.values()
    ]
    places = range(1, 1 + len(settings))
    numeric = {p for p in places if any(isinstance(row[p].value, int | float) for row in rows)}
    columns = [Column("measured", numeric=False)]
    columns += [Column(name, numeric=place in numeric) for place, name in zip(places, settings, strict=True)]
    columns += [Column(name) for name in names]
    return [Section(title, columns, rows, note, plots=plots)]
