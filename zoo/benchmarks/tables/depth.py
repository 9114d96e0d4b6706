"""One model and data set at 1 to 8 bits: rate and distortion, bounded and unbounded, meeting and overlapping bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import Column, Section, Table, number, word
from zoo.benchmarks.tables.shared import MARKS, line_cell, published_cell
from zoo.errors import UserError
from zoo.pictures import Curve, Plot, save_plot


def overlap(bits: int) -> float:
    """How much wider the official bins are than the spacing of the levels.

    Half-width 1 / (2^bits - 1) against a spacing of 2^(8 - bits) / 127.5.

    Example:
        >>> round(overlap(5), 4), overlap(8)
        (1.0282, 1.0)
    """
    return 255.0 / (256 - 2.0 ** (8 - bits))


def free_bits(bits: int) -> float:
    """Bits per dimension that overlap gives away to a distribution much wider than a bin: log2 of `overlap`."""
    return float(math.log2(overlap(bits)))


def build(records: Sequence[Line], references: References, *, plot: str | None = None) -> Table:
    """Bits/dim by bit depth, and the same weights under the bins of the official 5-bit code.

    Args:
        records: stored lines.
        references: published numbers.
        plot: PNG file to draw the curves in.
    """
    lines = about(records, "depth")
    if plot is not None:
        _plot(lines, plot)
    return Table(
        name="depth",
        title="Bit depth: the same model and images at 1 to 8 bits",
        intro=[
            "bits/dim of different depths are about different data and cannot be ranked. `official bins` prices the "
            "same weights by the official formula: below 8 bits its bins overlap, and the number is no bound."
        ],
        sections=[*_published(references), *_trained(lines), *_checkpoints(about(records, "bins"))],
        marks=MARKS,
        notes=[
            "`given away`: bits/dim by which overlapping bins flatter a distribution much wider than a bin; a sharp "
            "one on a border can gain up to 1 bit (docs/five_bits.md).",
        ],
    )


def _published(references: References) -> list[Section]:
    """The bounded and the unbounded rows of Table 4."""
    found: dict[tuple[str, int, int], dict[str, Reference]] = {}
    for reference in references.select(source="efficient_vdvae", table="4", metric="nll", unit="bits/dim"):
        if reference.model.startswith("Efficient-VDVAE"):
            key = (reference.dataset, reference.resolution, reference.bits)
            found.setdefault(key, {})["unbounded" if "unbounded" in reference.model else "bounded"] = reference
    columns = [Column("data", numeric=False), Column("bits"), Column("bounded"), Column("unbounded")]
    rows = []
    for (dataset, side, bits), values in found.items():
        cells = [published_cell([values[k]] if k in values else [], references) for k in ("bounded", "unbounded")]
        rows.append([word(f"{dataset} {side}x{side}"), number(bits, 0), *cells])
    note = "Overlapping bins at 5 bits."
    return [Section("Published, Table 4: lower limit of the mixture's scale", columns, rows, note)] if rows else []


Variants = dict[tuple[str, str], Measurement]


def _groups(lines: Sequence[Measurement]) -> dict[tuple[Any, ...], dict[int, Variants]]:
    """Latest line of every depth and variant, by the settings of the training."""
    groups: dict[tuple[Any, ...], dict[int, Variants]] = {}
    for item in lines:
        s = item.settings
        key = (item.subject, s["dataset"], s["steps"], s["batch_size"], s["lr"], s["seed"])
        by_depth = groups.setdefault(key, {})
        by_depth.setdefault(int(s["bits"] or 0), {})[str(s["limit"]), str(s["trained_with"])] = item
    return groups


_CELLS: tuple[tuple[str, tuple[str, str], str], ...] = (
    ("bounded", ("bounded", "normalised"), "bits_per_dim"),
    ("unbounded", ("unbounded", "normalised"), "bits_per_dim"),
    ("rate", ("unbounded", "normalised"), "rate"),
    ("distortion", ("unbounded", "normalised"), "distortion"),
    ("bounded, official bins", ("bounded", "normalised"), "official_bits_per_dim"),
    ("unbounded, official bins", ("unbounded", "normalised"), "official_bits_per_dim"),
    ("trained on official bins, official bins", ("unbounded", "efficient_vdvae"), "official_bits_per_dim"),
    ("trained on official bins, meeting bins", ("unbounded", "efficient_vdvae"), "bits_per_dim"),
)


def _trained(lines: Sequence[Measurement]) -> list[Section]:
    """The short trainings, one row per depth."""
    sections = []
    for (subject, dataset, steps, batch_size, lr, seed), by_depth in _groups(lines).items():
        columns = [Column("bits"), *(Column(name) for name, _, _ in _CELLS), Column("given away")]
        rows = []
        for bits, variants in sorted(by_depth.items()):
            cells = [number(bits, 0)]
            for _, variant, name in _CELLS:
                item = variants.get(variant) or (variants.get((variant[0], "normalised")) if bits == 8 else None)
                cells.append(line_cell(item, name, 3))
            rows.append([*cells, number(free_bits(bits))])
        title = f"Measured: {subject}, {dataset} 32x32, {steps:,} steps"
        note = f"Batch size {batch_size}, learning rate {lr:g}, seed {seed}; rate and distortion of the unbounded run."
        key = (subject, dataset, steps)
        sections.append(Section(title, columns, rows, note, plots=[_drawing(key, by_depth)]))
    return sections


def _checkpoints(lines: Sequence[Measurement]) -> list[Section]:
    """Checkpoints under both kinds of bins."""
    latest = {(item.subject, item.settings["dataset"]): item for item in lines}
    names = ("bits", "meeting bins", "±", "official bins", "difference", "given away")
    columns = [Column("checkpoint", numeric=False), Column("images", numeric=False), *(Column(name) for name in names)]
    rows = []
    for (subject, dataset), item in latest.items():
        v, bits = item.values, int(item.settings["bits"] or 0)
        prices = [number(bits, 0), line_cell(item, "bits_per_dim", 3), number(v["standard_error"])]
        gap = v["bits_per_dim"] - v["official_bits_per_dim"]
        prices += [line_cell(item, "official_bits_per_dim", 3), number(gap, 4), number(free_bits(bits), 4)]
        rows.append([word(subject), word(f"{v['images']:.0f} of {dataset}/{item.settings['split']}"), *prices])
    return [Section("Measured: the same weights under both kinds of bins", columns, rows)] if rows else []


def _curves(by_depth: dict[int, Variants]) -> list[Curve]:
    """Bound, rate, distortion and the official number against depth."""
    curves = []
    for position, (name, variant, value) in enumerate(_CELLS):
        found = [(bits, v[variant].values.get(value)) for bits, v in sorted(by_depth.items()) if variant in v]
        points = [(float(bits), height) for bits, height in found if height is not None]
        if position in (1, 2, 3, 5, 6):
            label = name.replace("trained on official bins, ", "trained on ")
            curves.append(Curve(label, points, dashed=position not in (1, 6)))
    return curves


def _drawing(key: tuple[Any, ...], by_depth: dict[int, Variants]) -> Plot:
    title = f"{key[0]}, {key[1]} 32x32, {key[2]:,} steps"
    return Plot(_curves(by_depth), title, "bits per channel", "bits/dim")


def _plot(lines: Sequence[Measurement], path: str) -> None:
    """The curves of the last group as a picture file."""
    groups = _groups(lines)
    if not groups:
        raise UserError("--plot: nothing is measured yet; `zoo measure depth` does")
    save_plot(path, _drawing(*list(groups.items())[-1]))
    print(f"wrote {path}")
