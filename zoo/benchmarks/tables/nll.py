"""Likelihoods: published beside measured, under one heading only if they are numbers about the same images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zoo.benchmarks.records import Line, Record, latest, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

ABLATIONS = {"1a", "1b", "2", "2a", "2b", "5", "7", "8", "9", "arrays"}
MARKS = {
    "°": "a bound by the nature of the model (VAE, diffusion); the source prints no ≤",
    "*": "trained with data augmentation, as marked by the source; ours: turned or recoloured images",
    "⁇": "sources disagree about the augmentation mark; see the disputes in the package's references",
    "‡": "official 5-bit code: its bins overlap, the levels sum to more than one, the number is about 0.04 too good",
    "~": 'the source says "about"',
    "ᶜ": "printed in nats/dim, converted",
    "†": "measured under the official formula of that code, not under a normalised distribution",
    "§": "pixel distribution around the decoder is ours, not the paper's, which has none",
    "ᵏ": "importance-weighted bound, tighter than the ELBO: not to be held against unmarked numbers",
    "ᵒ": "by the probability-flow ODE, a bound up to the tolerance of its solver; not the model the ELBO prices",
    "ᵃ": "which of the two preparations of the images is taken from the paper's date or name for it",
    "ʰ": "one half of the test images (Efficient-VDVAE splits them into validation and test)",
    "ᵖ": "fewer images than the split has, or a split other than test",
}


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

    def sources(self, references: References) -> str:
        """Short names of where the published cells come from."""
        found: dict[str, list[str]] = {}
        for cell in self.published.values():
            for reference in cell:
                tables = found.setdefault(references.sources[reference.source].short, [])
                if reference.table[:1].isdigit() and f"t{reference.table}" not in tables:
                    tables.append(f"t{reference.table}")
        return "; ".join(" ".join([name, *tables]) for name, tables in found.items())


def build(
    records: Sequence[Line], references: References, *, dataset: str | None = None, ablations: bool = False
) -> Table:
    """Published beside measured likelihoods, 8-bit and 5-bit columns side by side.

    Args:
        records: stored lines; those that price pixels are used, the latest of each question.
        references: published numbers.
        dataset: show only data sets whose name contains this.
        ablations: also show the rows of ablation tables.
    """
    sections: dict[Heading, list[Row]] = {}
    skipped = 0
    for record in latest(of_kind(records, Record)):
        if record.priced == "codes" or column_of(record.bits, record.dataset) is None:
            skipped += 1
            continue
        _add_measured(sections.setdefault(heading_of(record, references), []), record, references)
    for reference in references.select(metric="nll"):
        if reference.table in ABLATIONS and not ablations:
            continue
        heading = Heading(reference.dataset, reference.resolution, references.heading(reference.variant))
        _add_published(sections.setdefault(heading, []), reference)
    shown = sorted(sections.items(), key=lambda item: _order(item[0]))
    if dataset is not None:
        shown = [item for item in shown if dataset.lower() in f"{item[0].dataset} {item[0].resolution}".lower()]
    notes = [f"{skipped} records of codes or of other bit depths are in the tables `codes` and `depth`."] * bool(
        skipped
    )
    return Table(
        name="nll",
        title="Likelihood: published beside measured",
        intro=[
            "bits/dim (MNIST: nats per image), lower is better; ± is the standard error over images. Numbers under "
            "different headings, or at different bit depths, are about different data and cannot be ranked.",
        ],
        sections=[_section(heading, rows, references) for heading, rows in shown],
        marks=MARKS,
        notes=notes,
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
    ambiguous = any(
        references.heading(n.variant) for n in references.select(dataset=known.name, resolution=record.resolution)
    )
    if ambiguous:
        variant = variant or "variant not stated"
    elif variant == record.dataset:
        variant = ""
    own = record.dataset not in references.datasets or record.dataset == "photos"
    variant = references.heading(variant)
    return Heading(known.name, record.resolution, variant, record.dataset_digest[:12] if own else "")


def label_of(record: Record) -> str:
    """Row of a measured number; everything that makes it another kind of number is part of the name."""
    label = record.model
    if record.model == "Efficient-VDVAE":
        size = re.search(r"(?:^|[-_])(c[12])(?:[-_]|$)", record.config.lower())
        label += f" {size[1].upper()}" if size else ""
        arguments = record.spec.get("init_args", {})
        floor = arguments.get("output", arguments).get("min_log_scale")  # records of earlier versions have no groups
        label += " (unbounded output)" if size is None and floor is not None and floor < -7.0 else ""
    if record.estimator == "importance":
        label += f", importance-weighted, {record.importance_samples} samples"
    if record.estimate:
        label += f", {estimate_name(record.estimate)}"
    if record.bins != "normalised":
        label += ", official formula"
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


def measured_cell(record: Record | None, references: References, nats: bool = False) -> Cell:
    """Bound sign, value, standard error and marks of a record."""
    if record is None:
        return number(None)
    value, error = record.bits_per_dim, record.standard_error
    if nats:
        scale = record.nats_per_image / record.bits_per_dim if record.bits_per_dim else 0.0
        value, error = record.nats_per_image, record.standard_error * scale
    marks = ["*"] * record.augmented
    marks += ["†"] * (record.bins != "normalised")
    marks += ["§"] * (not references.family(str(record.spec.get("class_path", ""))).paper_prices_pixels)
    marks += ["ᵏ"] * (record.estimator == "importance")
    marks += ["ᵒ"] * record.estimate.startswith("ode")
    marks += ["ᵖ"] * (record.split != "test" or record.partial)
    digits = 2 if nats else 3
    sign = "" if record.estimator == "exact" else "≤ "
    return number(value, digits, prefix=sign, suffix=f" ± {error:.{digits}f}", marks=marks)


def published_cell(numbers: Sequence[Reference], references: References, digits: int = 2) -> Cell:
    """Value and marks of what one or more sources print for the same model and images."""
    if not numbers:
        return number(None, empty=NOT_PUBLISHED)
    first = numbers[0]
    augmented = {n.augmented for n in numbers}
    marks = ["°"] * (first.kind == "bound" and not any(n.sign for n in numbers))
    marks += ["⁇"] if len(augmented) == 2 else ["*"] * first.augmented
    marks += ["‡"] * any(n.bins != "normalised" for n in numbers)
    marks += ["~"] * first.approximate
    marks += ["ᶜ"] * (first.unit == "nats/dim")
    marks += ["ᵏ"] * (first.kind == "importance") + ["ᵒ"] * (first.kind == "ode")
    marks += ["ᵃ"] * first.assumed
    marks += ["ʰ"] * (references.heading(first.variant) != first.variant)
    value = first.value if first.unit == "nats" else first.bits_per_dim()
    return number(value, digits, prefix="≤ " if first.kind in ("bound", "importance") else "", marks=marks)


def _add_measured(rows: list[Row], record: Record, references: References) -> None:
    """Put a record into its row."""
    label, experiment = label_of(record), experiment_of(record)
    column = column_of(record.bits, record.dataset) or ""
    for row in rows:
        if (row.label, row.experiment) == (label, experiment):
            row.measured[column] = record
            return
    rows.append(Row(label, experiment, measured={column: record}))


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
    row = Row(label, published={column: [reference]})
    rows.append(row)


def _section(heading: Heading, rows: list[Row], references: References) -> Section:
    """One heading with its rows: ours first, then by the best published number."""
    keys = ["nats"] if heading.dataset == "MNIST" else ["8 bits", "5 bits"]
    columns = [Column("model", numeric=False)]
    for key in keys:
        columns += [Column(f"{key}, published"), Column(f"{key}, measured")]
    named = any(row.experiment for row in rows)
    columns += [Column("experiment", numeric=False)] * named + [Column("published in", numeric=False)]
    cells = []
    for row in sorted(rows, key=lambda row: (not row.measured, _best(row.published.values()), row.label)):
        line = [word(row.label)]
        for key in keys:
            line.append(published_cell(row.published.get(key, []), references))
            line.append(measured_cell(row.measured.get(key), references, nats=key == "nats"))
        cells.append([*line, *[word(row.experiment)] * named, word(row.sources(references))])
    title = f"{heading.dataset} {heading.resolution}x{heading.resolution}"
    note = references.variants[heading.variant].text if heading.variant in references.variants else ""
    images = {record.images for row in rows for record in row.measured.values()}
    if images:
        counted = ", ".join(f"{count:,}" for count in sorted(images))
        note = f"{note} Measured on {counted} images, each once.".strip()
    return Section(f"{title}, {heading.variant}" if heading.variant else title, columns, cells, note)


def _order(heading: Heading) -> tuple[bool, str, int, str]:
    """Our own images first, then by name."""
    return (not heading.split, heading.dataset, heading.resolution, heading.variant)


def _best(cells: Iterable[list[Reference]]) -> float:
    """The smallest published value of a row, to order rows by."""
    values = [value for cell in cells for n in cell if (value := n.bits_per_dim() or n.value) is not None]
    return min(values, default=0.0)


def _settings(reference: Reference) -> str:
    """What tells this row from others of its model."""
    told = {name: value for name, value in reference.settings.items() if name != "weights"}
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in told.items())
