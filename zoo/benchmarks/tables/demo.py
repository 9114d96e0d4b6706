"""The small models that ship, beside what classical codecs need for the same photographs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zoo.benchmarks.records import Line, Measurement, Record, about, best, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import NOT_RUN, Cell, Column, Section, Table, word
from zoo.benchmarks.tables.nll import experiment_of, label_of
from zoo.benchmarks.tables.shared import MARKS, insist, line_cell, measured_cell

DEPTHS = (8, 5)
LAYOUTS = {"tiles": "each tile its own file", "montage": "all in one image"}


@dataclass
class Row:
    """One model at both depths."""

    label: str
    parameters: set[int] = field(default_factory=set)
    records: dict[int, Record] = field(default_factory=dict)
    coded: dict[int, Record] = field(default_factory=dict)


def build(records: Sequence[Line], references: References, *, dataset: str = "photos") -> Table:
    """Bits/dim of the shipped checkpoints on the bundled test photographs, beside PNG, WebP and JPEG XL.

    Args:
        records: stored lines; priced test splits and classical codecs are used.
        references: names of families.
        dataset: key of the data set.
    """
    insist(dataset, records)
    priced = [
        record
        for record in best(of_kind(records, Record))
        if record.dataset == dataset and record.variant in ("", dataset) and record.complete
        if record.split == "test" and record.priced == "pixels" and record.bits in DEPTHS
        if record.bins == "normalised" and record.kind != "importance"
        if re.fullmatch(rf"[a-z0-9-]+-{dataset}-[1-8]bit", record.config)  # shipped checkpoints, no experiments
    ]
    classical = [line for line in about(records, "classical") if line.settings.get("dataset") == dataset]
    digests = {record.dataset_digest for record in priced} | {str(line.settings["digest"]) for line in classical}
    if len(digests) > 1:
        raise ValueError(f"demo table: records of {len(digests)} different versions of {dataset}")
    rows = _rows(priced, best(record for record in of_kind(records, Record) if record.coded_net is not None))
    columns = [Column("model", numeric=False), Column("parameters")]
    for depth in DEPTHS:
        columns += [Column(f"{depth} bits, bits/dim"), Column(f"{depth} bits, coded against estimate")]
    cells = [_model_cells(row, references) for row in sorted(rows, key=_order)] + _classical_cells(classical)
    return Table(
        name="demo",
        title="Small models and classical codecs on the bundled test photographs",
        intro=_intro(priced),
        sections=[Section("Test photographs, 32x32 tiles", columns, cells)],
        marks=MARKS,
        notes=_notes(rows, classical),
    )


def _rows(priced: Iterable[Record], coded: Iterable[Record]) -> list[Row]:
    """Records of one experiment at both depths side by side, and what its files took."""
    files = {record.question: record for record in coded}
    rows: dict[tuple[str, str], Row] = {}
    for record in priced:
        row = rows.setdefault((label_of(record), experiment_of(record)), Row(label_of(record)))
        row.records[record.bits] = record
        if record.question in files:
            row.coded[record.bits] = files[record.question]
        row.parameters.add(record.parameters)
    return list(rows.values())


def _order(row: Row) -> tuple[float, str]:
    return (min(record.bits_per_dim for record in row.records.values()) if row.records else 0.0, row.label)


def _model_cells(row: Row, references: References) -> list[Cell]:
    """Estimate with standard error, and what real files differed from it, for each depth."""
    cells = [
        word(row.label),
        Cell(" / ".join(f"{count:,}" for count in sorted(row.parameters, reverse=True)), max(row.parameters)),
    ]
    for depth in DEPTHS:
        record = row.records.get(depth)
        cells += [measured_cell(record, references), coded_cell(row.coded.get(depth))]
    return cells


def coded_cell(record: Record | None) -> Cell:
    """Net size of real files against the estimate for the same images, in percent."""
    if record is None or record.coded_net is None or not record.coded_estimate:
        return Cell(NOT_RUN)
    percent = 100 * (record.coded_net / record.coded_estimate - 1)
    return Cell(f"{percent:+.2f} % ({record.coded_images})", percent)


def _classical_cells(classical: Sequence[Measurement]) -> list[list[Cell]]:
    """One row per codec and layout, the newest measurement of each."""
    newest = {(line.subject, line.settings["layout"], line.settings["bits"]): line for line in classical}
    names = sorted({(subject, layout) for subject, layout, _ in newest}, key=lambda key: (key[1] != "tiles", key[0]))
    rows = []
    for subject, layout in names:
        row = [word(f"{subject}, {LAYOUTS[str(layout)]}"), Cell("", why="a classical codec has none")]
        for depth in DEPTHS:
            line = newest.get((subject, layout, depth))
            row += [line_cell(line, "bits/dim", 3), Cell("real files", why="its numbers are sizes of real files")]
        rows.append(row)
    return rows


def _intro(priced: Sequence[Record]) -> list[str]:
    """What is compared with what."""
    images = {record.images for record in priced}
    count = ", ".join(f"{n:,}" for n in sorted(images)) or "no"
    return [
        f"bits/dim, lower is better. Models: bound on the cost of {count} test tiles of 32x32, each priced once and by "
        "itself; ± is the standard error over tiles. They are small, trained on a CPU on the photographs of the train "
        "split; no photograph is in two splits. 'Coded against estimate': size of a real, decoded file without the "
        "initial bits of bits-back, relative to the estimate for the same tiles (their number in brackets).",
        "Classical codecs: bytes of real files, headers included, of the same pixels. A 32x32 tile as its own file "
        "pays for a header each time; in one image the codec looks across tiles, which the models cannot. 8-bit and "
        "5-bit columns are about different data.",
    ]


def _notes(rows: Sequence[Row], classical: Sequence[Measurement]) -> list[str]:
    """How the codecs were run, and what the records add."""
    how = {line.subject: str(line.settings["how"]) for line in classical}
    notes = [f"{name}: {settings}." for name, settings in sorted(how.items())]
    stored = {
        (line.subject, line.settings["layout"]): line.settings["stored as"]
        for line in classical
        if line.settings["bits"] == 5
    }
    if stored:
        notes.append(
            "5 bits: the smaller of two files, one with the levels 0 to 31 and one with them in the upper bits ("
            + "; ".join(f"{name}, {layout}: {form}" for (name, layout), form in sorted(stored.items()))
            + ")."
        )
    shown = [record for row in rows for record in (*row.records.values(), *row.coded.values())]
    return notes + sorted({record.note for record in shown if record.note})
