"""A table as a paper prints it, row by row, with what was measured for the same numbers beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_RUN, Cell, Column, Section, number, word
from zoo.benchmarks.tables.shared import QUANTITIES, Measured, gap_cell, provenance, published_cell

WORDS = {
    "layers_32_16_8_4_1": "layers at 32, 16, 8, 4, 1",
    "widths_32_16_8_4_1": "width at 32, 16, 8, 4, 1",
    "percent_posteriors": "posteriors kept, %",
    "gradient_smoothing": "smoothing",
    "bottom_up_depth": "bottom-up layers",
    "top_down_depth": "top-down layers",
    "lr_schedule": "schedule",
    "train_steps": "steps in training",
    "steps": "steps",
}
NEVER = {"train_time", "train_iterations", "speedup"}  # no command of ours measures these
LIKELIHOODS = {"nll", "kl", "reconstruction", "coded_net", "parameters"}
Joined = Mapping[str, Measured]


def printed(
    references: References,
    measured: Joined,
    title: str,
    metrics: Mapping[str, tuple[str, int]],
    where: Mapping[str, Any],
    *,
    name: Callable[[Reference], str] | str = "model",
    settings: Sequence[str] = (),
    note: str = "",
    by_value: bool = True,
) -> Section:
    """One printed table.

    Args:
        references: published numbers.
        measured: what reproduces them, by id (`shared.joined`).
        title: heading.
        metrics: metric -> heading and decimals, in the order of columns.
        where: fields that select the numbers (`References.select`).
        name: first column: of a number, or one of its fields.
        settings: what else is shown of a row, keys of its `settings`.
        note: below the heading.
        by_value: rows in the order of the first metric, else as printed.
    """
    rows: dict[str, dict[str, Reference]] = {}
    for reference in references.select(metric=tuple(metrics), **where):
        rows.setdefault(reference.row, {})[reference.metric] = reference
    lines = list(rows.values())
    if by_value:
        lines.sort(key=lambda line: next((line[metric].value for metric in metrics if metric in line), 0.0))
    first = [next(iter(line.values())) for line in lines]
    named = (lambda n: str(getattr(n, name))) if isinstance(name, str) else name
    grid: list[tuple[Column, list[Cell]]] = [(Column("row", numeric=False), [word(named(n)) for n in first])]
    if settings and len({named(n) for n in first}) == 1:  # one name for all rows is said once
        grid, note = [], f"{named(first[0])}. {note}".strip()
    for key in settings:
        cells = [setting_cell(n.settings.get(key)) for n in first]
        grid.append((Column(WORDS.get(key, key.replace("_", " ")), numeric=_numeric(cells)), cells))
    bits = first[0].bits if len({n.bits for n in first}) == 1 else None
    for metric, (heading, digits) in metrics.items():
        grid += _columns(metric, heading, digits, [line.get(metric) for line in lines], references, measured, bits)
    images = {(n.dataset, n.resolution) for n in first}
    dataset, side = next(iter(images)) if len(images) == 1 else ("", 0)
    return Section(
        title,
        [column for column, _ in grid],
        [list(cells) for cells in zip(*(cells for _, cells in grid), strict=True)],
        note,
        dataset=f"{dataset} {side}x{side}" if dataset else "",
    )


def setting_cell(value: Any) -> Cell:
    """What distinguishes a row: a number, a list of numbers, yes or no, or words."""
    if value is None:
        return Cell("", why="the source says nothing about it here")
    if isinstance(value, bool):
        return word("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(f"{value:,}" if isinstance(value, int) else f"{value:g}", value)
    return word(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _numeric(cells: Sequence[Cell]) -> bool:
    return any(isinstance(cell.value, int | float) for cell in cells)


def _columns(
    metric: str,
    heading: str,
    digits: int,
    numbers: Sequence[Reference | None],
    references: References,
    measured: Joined,
    bits: int | None,
) -> list[tuple[Column, list[Cell]]]:
    """Published, measured, and their difference where there are both."""
    cells = [published_cell([n] if n else [], references, digits) for n in numbers]
    if metric in NEVER:
        return [(Column(f"{heading}, published", bits=bits), cells)]
    found = [measured.get(n.id) if n else None for n in numbers]
    columns = [
        (Column(f"{heading}, published", bits=bits), cells),
        (Column(f"{heading}, measured", bits=bits), [joined_cell(m, metric, digits + 1) for m in found]),
    ]
    if any(found):
        values = [n.value if n else None for n in numbers]
        gaps = [gap_cell(v, m.value if m else None, digits + 1) for v, m in zip(values, found, strict=True)]
        columns.append((Column(f"{heading}, difference", bits=bits), gaps))
    return columns


def joined_cell(found: Measured | None, metric: str, digits: int) -> Cell:
    """A measured number that reproduces a published one, or which command would measure it."""
    if found is None:
        asked = sorted({question for question, known in QUANTITIES if known == metric})
        command = "zoo test CKPT" if metric in LIKELIHOODS else " or ".join(f"zoo measure {q}" for q in asked)
        return Cell(
            NOT_RUN, why=f"no record reproduces this row; `{command}` with its configuration's weights makes one"
        )
    error = f" ± {found.error:.{digits}f}" if found.error is not None else ""
    return number(found.value, digits, suffix=error, marks=found.marks, record=provenance(found.line))
