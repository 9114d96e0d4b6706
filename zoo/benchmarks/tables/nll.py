"""Likelihoods: published beside measured, under one heading only if they are numbers about the same images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zoo.benchmarks.records import Line, Record, best, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables.shared import (
    MARKS,
    chooses,
    deviations,
    gap_cell,
    measured_cell,
    published_cell,
    reproduced,
    source_of,
)

ABLATIONS = {"1a", "1b", "2", "2a", "2b", "5", "7", "8", "9", "arrays"}
COLUMNS = {"8 bits": 8, "5 bits": 5, "nats": 1}
ASK = "no record of this model and these images: `zoo test CKPT` makes one"


@dataclass(frozen=True)
class Heading:
    """The images a number is about; rows under different headings are never comparable."""

    dataset: str
    resolution: int
    variant: str
    split: str = ""  # digest of the file for data sets that nobody else can know


@dataclass
class Row:
    """One line of a section: a model with its published and measured cells by column."""

    label: str
    experiment: str = ""
    published: dict[str, list[Reference]] = field(default_factory=dict)
    measured: dict[str, Record] = field(default_factory=dict)
    marks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def references(self) -> list[Reference]:
        """All published numbers of the row."""
        return [reference for cell in self.published.values() for reference in cell]

    def value(self, column: str) -> float | None:
        """The smallest number of a column, to order rows by."""
        known = [n.bits_per_dim() or n.value for n in self.published.get(column, [])]
        record = self.measured.get(column)
        if record is not None:
            known.append(record.nats_per_image if column == "nats" else record.bits_per_dim)
        return min(known, default=None)


def build(
    records: Sequence[Line], references: References, *, dataset: str | None = None, ablations: bool = False
) -> Table:
    """Published beside measured likelihoods, 8-bit and 5-bit columns side by side.

    Args:
        records: stored lines; those that price pixels are used, the best of each question.
        references: published numbers.
        dataset: show only these images: a name of `zoo data list` or a part of the papers' name.
        ablations: also show the rows of ablation tables.
    """
    sections = _published(references, ablations)
    skipped = 0
    for record in best(of_kind(records, Record)):
        if record.priced == "codes" or column_of(record.bits, record.dataset) is None:
            skipped += 1
        else:
            _add_measured(sections, record, references)
    shown = sorted(sections.items(), key=lambda item: _order(item[0]))
    chosen = chooses(dataset, references, [(h.dataset, h.resolution, h.variant) for h, _ in shown])
    notes = [f"{skipped} records of codes or of other bit depths are in the tables `codes` and `depth`."]
    return Table(
        name="nll",
        title="Likelihood: published beside measured",
        intro=[
            "bits/dim (MNIST: nats per image), lower is better; ± is the standard error over images. Numbers under "
            "different headings, or at different bit depths, are about different data and cannot be ranked.",
        ],
        sections=[_section(*item, references) for item, kept in zip(shown, chosen, strict=True) if kept],
        marks=MARKS,
        notes=notes * bool(skipped),
        expects="`zoo test CKPT` writes records of likelihoods",
    )


def column_of(bits: int, dataset: str) -> str | None:
    """Key of the column pair a number belongs to; None if this table has none for it."""
    if bits == 1:
        return "nats" if dataset.lower().startswith("mnist") else None
    return {8: "8 bits", 5: "5 bits"}.get(bits)


def heading_of(record: Record, references: References) -> Heading:
    """The heading of a measured number, in the words of the papers where they have some."""
    known = references.dataset(record.dataset, record.resolution)
    variant = record.variant
    published = references.select(dataset=known.name, resolution=record.resolution)
    if any(references.heading(n.variant) for n in published):
        variant = variant or "variant not stated"
    elif variant == record.dataset:
        variant = ""
    own = record.dataset not in references.datasets or record.dataset == "photos"
    variant = references.heading(variant)
    if not record.verified and not own:
        return Heading(known.name, record.resolution, f"{variant or known.name}, not verified")
    return Heading(known.name, record.resolution, variant, record.dataset_digest[:12] if own else "")


def label_of(record: Record) -> str:
    """Row of a measured number; everything that makes it another kind of number is part of the name."""
    label = record.model
    if record.kind == "importance":
        label += f", importance-weighted, {record.importance_samples} samples"
    if record.estimator:
        label += f", {estimate_name(record.estimator)}"
    if record.bins != "normalised":
        label += ", official formula"
    label += "".join(f", {name}={value}" for name, value in record.overrides.items())
    if record.precision != "float32" or record.tf32:
        label += f", {record.precision}{' with TF32' if record.tf32 else ''}"
    return label


def estimate_name(estimate: str) -> str:
    """Which of its estimators a diffusion model was priced with, in words."""
    if estimate.startswith("steps-"):
        return f"{estimate.removeprefix('steps-')}-step bound"
    names = {"continuous": "continuous-time bound", "ode": "ODE", "ode-gaussian": "ODE, Gaussian dequantisation"}
    return names.get(estimate, estimate)


def experiment_of(record: Record) -> str:
    """Name of the experiment without its bit depth, so that 5 and 8 bits stand in one row."""
    return re.sub(r"[-_]?[1-8]bit", "", record.config)


def _published(references: References, ablations: bool) -> dict[Heading, list[Row]]:
    """The rows of published numbers."""
    sections: dict[Heading, list[Row]] = {}
    for reference in references.select(metric="nll"):
        if reference.table not in ABLATIONS or ablations:
            heading = Heading(reference.dataset, reference.resolution, references.heading(reference.variant))
            _add_published(sections.setdefault(heading, []), reference)
    return sections


def _add_published(rows: list[Row], reference: Reference) -> None:
    """Put a published number into the row of its model, or into a new one if that row already says something else."""
    label = reference.model
    if reference.source.endswith("_repo") and reference.table == "read-me":
        label += f", released weights{_settings(reference)}"
    elif reference.table in ABLATIONS:
        label += f", table {reference.table}{_settings(reference)}"
    column = column_of(reference.bits, reference.dataset) or ""
    for row in rows:
        if row.label != label:
            continue
        present = row.published.setdefault(column, [])
        if not present or (present[0].value, present[0].unit) == (reference.value, reference.unit):
            present.append(reference)
            return
    rows.append(Row(label, published={column: [reference]}))


def _settings(reference: Reference) -> str:
    """What tells this row from others of its model."""
    told = {name: value for name, value in reference.settings.items() if name != "weights"}
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in told.items())


def _add_measured(sections: dict[Heading, list[Row]], record: Record, references: References) -> None:
    """Put a record beside the first published number it reproduces, else into a row of its own."""
    column = column_of(record.bits, record.dataset) or ""
    wanted = {row: place for place, row in enumerate(reproduced(record))}
    pairs = [
        (wanted[reference.row], row, marks)
        for rows in sections.values()
        for row in rows
        for reference in row.published.get(column, [])
        if reference.row in wanted and column not in row.measured
        if (marks := deviations(record, reference, references)) is not None
    ]
    if pairs:
        _, row, marks = min(pairs, key=lambda pair: pair[0])
        row.measured[column], row.marks[column], row.experiment = record, marks, row.experiment or record.config
        return
    rows = sections.setdefault(heading_of(record, references), [])
    label, experiment = label_of(record), experiment_of(record)
    for row in rows:
        if (row.label, row.experiment) == (label, experiment) and column not in row.measured and not row.published:
            row.measured[column] = record
            return
    taken = any((row.label, row.experiment) == (label, experiment) for row in rows)
    label += f", weights {record.weights[:8]}" if taken else ""
    rows.append(Row(label, experiment, measured={column: record}))


def _section(heading: Heading, rows: list[Row], references: References) -> Section:
    """One heading with its rows by value; columns that would say nothing are left out."""
    used = {column for row in rows for column in (*row.published, *row.measured)}
    depths = [column for column in COLUMNS if column in used]
    rows = sorted(rows, key=lambda row: (_of_a_part(row), *(_rank(row.value(column)) for column in depths), row.label))
    grid: list[tuple[Column, list[Cell]]] = [(Column("model", numeric=False), [word(row.label) for row in rows])]
    for depth in depths:
        grid += _depth(depth, rows, references)
    if any(row.experiment for row in rows):
        grid.append((Column("experiment", numeric=False), [word(row.experiment) for row in rows]))
    if any(row.published for row in rows):
        grid.append((Column("published in", numeric=False), [source_of(row.references(), references) for row in rows]))
    for name, cells in _about(heading, rows, references):
        if any(cell.text for cell in cells):
            grid.append((Column(name, numeric=name in ("year", "parameters", "evaluations")), cells))
    title = f"{heading.dataset} {heading.resolution}x{heading.resolution}"
    return Section(
        f"{title}, {heading.variant}" if heading.variant else title,
        [column for column, _ in grid],
        [list(cells) for cells in zip(*(cells for _, cells in grid), strict=True)],
        _note(heading, rows, references),
        dataset=title,
        variant=heading.variant,
    )


def _of_a_part(row: Row) -> bool:
    """Whether a row's only numbers are about a part of a split: they stand last, since they rank with nothing."""
    return not row.published and not any(record.complete for record in row.measured.values())


def _rank(value: float | None) -> float:
    return float("inf") if value is None else value


def _depth(depth: str, rows: Sequence[Row], references: References) -> list[tuple[Column, list[Cell]]]:
    """Published, measured and their difference at one depth; no column for what nobody has published."""
    bits, nats = COLUMNS[depth], depth == "nats"
    published = [published_cell(row.published.get(depth, []), references) for row in rows]
    measured = [measured_cell(row.measured.get(depth), references, nats, row.marks.get(depth, ()), ASK) for row in rows]
    columns = [(Column(f"{depth}, published", bits=bits), published)] * any(row.published for row in rows)
    columns.append((Column(f"{depth}, measured", bits=bits), measured))
    gaps = [gap_cell(_first(row.published.get(depth, [])), _price(row.measured.get(depth), nats)) for row in rows]
    if any(cell.value is not None for cell in gaps):
        columns.append((Column(f"{depth}, difference", bits=bits), gaps))
    return columns


def _first(numbers: Sequence[Reference]) -> float | None:
    return None if not numbers else numbers[0].bits_per_dim() or numbers[0].value


def _price(record: Record | None, nats: bool) -> float | None:
    return None if record is None else record.nats_per_image if nats else record.bits_per_dim


def _about(heading: Heading, rows: Sequence[Row], references: References) -> list[tuple[str, list[Cell]]]:
    """What is known of the models: year, type, size, evaluations, images, augmentation."""
    known = [references.model(row.label) for row in rows]
    augmented = [
        any(n.augmented for n in row.references()) or any(r.augmented for r in row.measured.values()) for row in rows
    ]
    images = references.variants[heading.variant].images if heading.variant in references.variants else ""
    return [
        ("parameters", [_parameters(row, references) for row in rows]),
        ("evaluations", [_evaluations(m.evaluations if m else "", heading.resolution) for m in known]),
        ("year", [Cell(str(m.year), m.year) if m else Cell("") for m in known]),
        ("type", [word(m.type) if m else Cell("") for m in known]),
        ("images", [word(images) for _ in rows]),
        ("augmented", [word("yes" if a else "") for a in augmented]),
    ]


def _parameters(row: Row, references: References) -> Cell:
    """Trained scalars, of the measured network or as printed."""
    counts = sorted({record.parameters for record in row.measured.values()})
    if counts:
        return number(counts[-1], 0)
    for first in row.references()[:1]:
        where = {"dataset": first.dataset, "resolution": first.resolution, "bits": first.bits}
        for found in references.select(metric="parameters", model=first.model, **where):
            cell = published_cell([found], references)
            return replace(cell, text=f"{found.value:g} M", value=found.value * 1e6)
    return Cell("", why="no source that was read says how many")


def _evaluations(said: str, side: int) -> Cell:
    """Network evaluations to draw one image."""
    counted = {"pixels": side * side, "values": 3 * side * side, "1": 1}
    if said in counted:
        return number(counted[said], 0)
    return Cell(said, why="as many as are chosen" if said else "not known")


def _note(heading: Heading, rows: Sequence[Row], references: References) -> str:
    """Which images, and how many were priced."""
    note = references.variants[heading.variant].text if heading.variant in references.variants else ""
    images = {record.images for row in rows for record in row.measured.values()}
    if images:
        counted = " or ".join(f"{count:,}" for count in sorted(images, reverse=True))
        note = f"{note}. Measured on {counted} images, each once.".removeprefix(". ")
    return note


def _order(heading: Heading) -> tuple[bool, str, int, str]:
    """Our own images first, then by name."""
    return (not heading.split, heading.dataset, heading.resolution, heading.variant)
