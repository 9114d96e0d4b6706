"""Bits/dim by number of stochastic layers: the argument of VDVAE (Child 2020), published beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, Record, about, best, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Column, Section, Table, number, word
from zoo.benchmarks.tables.shared import MARKS, line_cell, measured_cell, published_cell
from zoo.pictures import Curve, Plot

KEYS = ("layers", "stochastic_layers", "depth")
HIERARCHIES = ("VDVAE", "Efficient-VDVAE", "Latent VAE")
SIZE = (720, 420)


def build(records: Sequence[Line], references: References) -> Table:
    """Published rows that state a depth, trainings of one network at several depths, and the shipped hierarchies.

    Args:
        records: stored lines; those of `zoo measure layers` and priced hierarchies are shown.
        references: published numbers.
    """
    rows = references.select(metric="nll", source="efficient_vdvae")
    published = [n for n in rows if depth_of(n) is not None]
    lines = about(records, "layers")
    return Table(
        name="layers",
        title="Stochastic layers: bits/dim by depth of the hierarchy",
        intro=["More stochastic layers buy a tighter bound, at falling returns. Compare within one data set only."],
        sections=[*_trained(lines), *_shipped(records, references), _published(published, references)],
        marks=MARKS,
        plots=_plots(published, lines),
    )


def depth_of(number: Reference) -> int | None:
    """Stochastic layers of a published network, where its row states them."""
    for key in KEYS:
        if key in number.settings:
            return int(number.settings[key])
    split = number.settings.get("layers_32_16_8_4_1")
    return None if split is None else sum(split)


def _published(numbers: Sequence[Reference], references: References) -> Section:
    """One row for each published number with a depth."""
    columns = [Column("model", numeric=False), Column("images", numeric=False), Column("stochastic layers")]
    columns += [Column("bits/dim"), Column("table", numeric=False)]
    rows = []
    for n in sorted(numbers, key=lambda n: (n.dataset, n.resolution, n.bits, n.value)):
        images = f"{n.dataset} {n.resolution}x{n.resolution}, {n.bits} bits"
        cells = [number(depth_of(n), 0), published_cell([n], references)]
        rows.append([word(n.model), word(images), *cells, word(f"{references.sources[n.source].short} t{n.table}")])
    return Section("Published", columns, rows)


def _trained(lines: Sequence[Measurement]) -> list[Section]:
    """One network trained at several depths."""
    if not lines:
        return []
    columns = [Column("network", numeric=False), Column("stochastic layers"), Column("parameters")]
    columns += [Column(name) for name in ("bits/dim", "±", "rate", "distortion")]
    names = ("bits_per_dim", "standard_error", "rate", "distortion")
    rows = []
    for line in sorted(lines, key=lambda line: line.values["bits_per_dim"]):
        sizes = [line_cell(line, "stochastic_layers", 0), line_cell(line, "parameters", 0)]
        rows.append([word(line.subject), *sizes, *(line_cell(line, name, 3) for name in names)])
    s = lines[-1].settings
    note = f"{s.get('steps'):,} steps each, {s.get('dataset')}, {s.get('bits')} bits." if s.get("steps") else ""
    return [Section("Measured: one network at several depths", columns, rows, note)]


def _shipped(records: Sequence[Line], references: References) -> list[Section]:
    """Priced hierarchies; every group of their rate is a stochastic layer."""
    found: list[Record] = [
        record
        for record in best(of_kind(records, Record))
        if record.model in HIERARCHIES and record.priced == "pixels"
        if record.complete and record.kind == "bound"
    ]
    if not found:
        return []
    columns = [Column("model", numeric=False), Column("experiment", numeric=False), Column("bits")]
    columns += [Column("groups of latents"), Column("parameters"), Column("bits/dim")]
    rows = [
        [
            word(record.model),
            word(record.config),
            number(record.bits, 0),
            number(len(record.rates), 0),
            number(record.parameters, 0),
            measured_cell(record, references),
        ]
        for record in sorted(found, key=lambda record: (-record.bits, record.bits_per_dim))
    ]
    return [Section("Measured: checkpoints with several groups of latents", columns, rows)]


def _plots(numbers: Sequence[Reference], lines: Sequence[Measurement]) -> list[Plot]:
    """Bits/dim against layers, a picture for each data set and depth that has three points."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for n in numbers:
        images = f"{n.dataset} {n.resolution}x{n.resolution}, {n.bits} bits"
        found.setdefault(images, {}).setdefault(f"table {n.table}", []).append((float(depth_of(n) or 0), n.value))
    for line in lines:
        images = f"{line.settings.get('dataset')}, {line.settings.get('bits')} bits, measured"
        point = (line.values["stochastic_layers"], line.values["bits_per_dim"])
        found.setdefault(images, {}).setdefault(line.subject.partition(",")[0], []).append(point)
    return [
        Plot(
            [Curve(name, sorted(points), line=len(dict(points)) == len(points) > 2) for name, points in curves.items()],
            f"Bits/dim by stochastic layers: {images}",
            "stochastic layers",
            "bits/dim",
            size=SIZE,
        )
        for images, curves in found.items()
        if len({point for points in curves.values() for point in points}) > 2
    ]
