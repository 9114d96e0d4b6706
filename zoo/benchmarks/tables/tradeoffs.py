"""What a bit costs: bits/dim against parameters, FLOPs and sampling time, rate against distortion, 5 against 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.benchmarks.records import Line, Measurement, Record, about, best, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables.nll import label_of
from zoo.benchmarks.tables.shared import MARKS, insist, line_cell, measured_cell, plain, provenance, published_cell
from zoo.pictures import Curve, Plot

SIZE = (720, 420)
COLUMNS = ("parameters", "GFLOP / image", "s / 1000 samples", "bits/dim", "rate", "distortion")


@dataclass(frozen=True)
class Entry:
    """A measured network with what it costs."""

    record: Record
    count: Measurement | None
    drawn: Measurement | None

    @property
    def label(self) -> str:
        """Name of the model in legends."""
        return label_of(self.record).partition(",")[0]

    def gigaflops(self) -> float | None:
        """Of one forward pass of one image."""
        flops = None if self.count is None else self.count.values.get("forward FLOP")
        return None if flops is None else flops / 1e9

    def seconds(self) -> float | None:
        """To draw 1000 images."""
        return None if self.drawn is None else self.drawn.values["seconds per 1000 images"]


def build(records: Sequence[Line], references: References, *, dataset: str = "photos") -> Table:
    """Bits/dim of networks measured on the same images beside what they cost, and published costs.

    Args:
        records: stored lines: priced test splits, `zoo measure compute` and `zoo measure speed_sampling`.
        references: published numbers.
        dataset: images that measured networks were priced on, a name of `zoo data list`.
    """
    insist(dataset, records)
    entries = _entries(records, dataset)
    sections = [_section(entries, references)] if entries else []
    return Table(
        name="tradeoffs",
        title="What a bit costs",
        intro=[
            "Small networks measured on the same images: lower is better on every axis but none is won for free. "
            "Numbers of 5 and of 8 bits are about different data and only share a picture."
        ],
        sections=[*sections, _published(references)],
        marks=MARKS,
        plots=_plots(entries),
        expects="`zoo test CKPT` prices a network",
    )


def _entries(records: Sequence[Line], dataset: str) -> list[Entry]:
    """The best estimate of each checkpoint on the whole test split, with its costs."""
    counts = {(plain(line.subject), line.values.get("parameters")): line for line in about(records, "compute")}
    times = {plain(line.subject): line for line in about(records, "speed_sampling")}
    chosen: dict[tuple[str, int], Record] = {}
    for record in best(of_kind(records, Record)):
        whole = record.dataset == dataset and record.variant in ("", dataset) and record.split == "test"
        if whole and record.complete and record.priced == "pixels" and record.bins == "normalised":
            key = (record.config, record.bits)
            known = chosen.get(key)
            if record.kind != "importance" and (known is None or record.bits_per_dim < known.bits_per_dim):
                chosen[key] = record
    entries = [
        Entry(r, counts.get((plain(r.config), float(r.parameters))), times.get(plain(r.config)))
        for r in chosen.values()
    ]
    return sorted(entries, key=lambda entry: (-entry.record.bits, entry.record.bits_per_dim))


def _section(entries: Sequence[Entry], references: References) -> Section:
    """One row for each network and depth."""
    rows = []
    for entry in entries:
        record = entry.record
        share = provenance(record)
        rows.append(
            [
                word(entry.label),
                word(record.config),
                number(record.bits, 0),
                number(record.parameters, 0),
                number(entry.gigaflops(), 3, why="`zoo measure compute` has not counted it, or in parts only"),
                line_cell(entry.drawn, "seconds per 1000 images", 1, why="`zoo measure speed_sampling CKPT` times it"),
                measured_cell(record, references),
                number(record.rate, 3, record=share),
                number(record.distortion, 3, record=share),
            ]
        )
    columns = [Column("model", numeric=False), Column("experiment", numeric=False), Column("bits")]
    columns += [Column(name) for name in COLUMNS]
    first = entries[0].record
    known = references.dataset(first.dataset, first.resolution)
    title = f"{known.name} {known.resolution}x{known.resolution}"
    return Section(f"Measured: {title}, test split", columns, rows, dataset=title)


def _published(references: References) -> Section:
    """Rows of published tables that print a size beside a likelihood."""
    likelihoods = {n.row: n for n in references.select(metric="nll")}
    pairs = [(n, likelihoods[n.row]) for n in references.select(metric="parameters") if n.row in likelihoods]
    pairs.sort(key=lambda pair: (pair[1].dataset, pair[1].resolution, pair[1].value))
    rows: list[list[Cell]] = []
    for size, likelihood in pairs:
        images = f"{size.dataset} {size.resolution}x{size.resolution}, {size.bits} bits"
        cells = [published_cell([size], references, 0), published_cell([likelihood], references)]
        rows.append([word(size.model), word(images), *cells])
    columns = [Column("model", numeric=False), Column("images", numeric=False)]
    columns += [Column("parameters, M"), Column("bits/dim")]
    plot = Plot(
        _published_curves(pairs), "Published: bits/dim against parameters", "parameters", "bits/dim", True, SIZE
    )
    return Section("Published: sizes", columns, rows, plots=[plot])


def _published_curves(pairs: Sequence[tuple[Reference, Reference]]) -> list[Curve]:
    """One cloud for each data set and depth."""
    clouds: dict[str, list[tuple[float, float, str]]] = {}
    for size, likelihood in pairs:
        name = f"{size.dataset} {size.resolution}, {size.bits} bits"
        clouds.setdefault(name, []).append((size.value * 1e6, likelihood.value, size.model))
    return [
        Curve(name, [(x, y) for x, y, _ in points], line=False, notes=[f"{model}, {y:g}" for _, y, model in points])
        for name, points in clouds.items()
    ]


def _plots(entries: Sequence[Entry]) -> list[Plot]:
    """The five pictures; a network without a number is left out of that picture."""
    axes: list[tuple[str, str, Callable[[Entry], float | None]]] = [
        ("parameters", "parameters", lambda entry: float(entry.record.parameters)),
        ("FLOPs", "GFLOP of one forward pass", Entry.gigaflops),
        ("sampling time", "seconds per 1000 images", Entry.seconds),
    ]
    plots = [
        Plot(_by_model(entries, of), f"Bits/dim against {name}", label, "bits/dim", True, SIZE)
        for name, label, of in axes
    ]
    rates = _by_model(entries, lambda entry: entry.record.rate, lambda entry: entry.record.distortion)
    plots.append(Plot(rates, "Rate against distortion", "rate, bits/dim", "distortion", size=SIZE))
    return [*plots, Plot(_depths(entries), "5 against 8 bits", "bits/dim at 8 bits", "at 5 bits", size=SIZE)]


def _by_model(
    entries: Sequence[Entry],
    x: Callable[[Entry], float | None],
    y: Callable[[Entry], float] = lambda entry: entry.record.bits_per_dim,
) -> list[Curve]:
    """Points of each model, one a depth."""
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for entry in entries:
        at = x(entry)
        if at is not None:
            note = f"{entry.record.config}, {entry.record.bits} bits: {y(entry):.3f}"
            curves.setdefault(entry.label, []).append((at, y(entry), note))
    return [
        Curve(name, [(a, b) for a, b, _ in points], line=False, notes=[note for *_, note in points])
        for name, points in curves.items()
    ]


def _depths(entries: Sequence[Entry]) -> list[Curve]:
    """The best network of each model at both depths, one point a model."""
    found: dict[str, dict[int, float]] = {}
    for entry in entries:
        found.setdefault(entry.label, {}).setdefault(entry.record.bits, entry.record.bits_per_dim)
    return [
        Curve(name, [(at[8], at[5])], line=False, notes=[f"{at[8]:.3f} at 8 bits, {at[5]:.3f} at 5"])
        for name, at in found.items()
        if {5, 8} <= at.keys()
    ]
