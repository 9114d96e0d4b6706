"""What every configuration of the repository would need, counted in seconds without training anything."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

NOT_COUNTED = "not counted"
BYTES_PER_PARAMETER = 20
"""float32 weight, gradient, two moments of Adam or Adamax, averaged weight."""


def build(records: Sequence[Line], references: References, *, only: str = "") -> Table:
    """Parameters, FLOPs and saved activations of every configuration, beside the published memory.

    Args:
        records: stored lines; those of `zoo measure compute` are shown.
        references: published numbers.
        only: show only configurations whose name contains this.
    """
    newest = {(line.subject, line.settings["stage"]): line for line in about(records, "compute")}
    counts = [line for line in newest.values() if only in line.subject]
    sections = [_all_configs(counts)]
    memory = _memory(counts, references)
    if memory.rows:
        sections.append(memory)
    missing = [f"{_name(count)}: {count.settings['problem']}" for count in counts if count.settings["problem"]]
    return Table(
        name="compute",
        expects="`zoo measure compute` counts every configuration",
        title="Compute: counted on the meta device, nothing is trained",
        intro=[
            "FLOPs: matrix products and convolutions of one image, a multiply and an add are two. Activations: bytes "
            "that the forward pass of one image keeps for the backward pass, float32, each storage "
            "once, weights not included; elementwise operations count as PyTorch saves them. "
            "Recomputation of activations is switched off here, also where a configuration asks for it.",
        ],
        sections=sections,
        notes=[f"{len(counts)} networks; not counted: {len(missing)}.", *missing],
    )


def _all_configs(counts: Sequence[Measurement]) -> Section:
    """One row per network."""
    columns = [Column("config", numeric=False), Column("model", numeric=False), Column("image"), Column("bits")]
    columns += [Column("parameters"), Column("forward, GFLOP"), Column("backward, GFLOP")]
    columns += [Column("activations, MB/image")]
    rows = []
    for count in counts:
        channels, _, size = str(count.settings["shape"]).partition("x")
        shape, bits, found = f"{size}x{channels}" if size else "", count.settings["bits"], count.values.get
        rows.append(
            [
                word(_name(count)),
                word(str(count.settings["model"])),
                Cell(shape, shape or None),
                Cell(str(bits) if bits else "", bits or None),
                number(found("parameters"), 0, empty=NOT_COUNTED),
                _scaled(found("forward FLOP"), 1e9, 2),
                _scaled(found("backward FLOP"), 1e9, 2),
                _scaled(found("saved bytes"), 1e6, 1),
            ]
        )
    return Section("Every configuration", columns, rows)


def _scaled(value: float | None, unit: float, digits: int) -> Cell:
    """A count in a larger unit."""
    return number(None if value is None else value / unit, digits, empty=NOT_COUNTED)


def _memory(counts: Sequence[Measurement], references: References) -> Section:
    """Published training memory beside activations plus weights, gradients, moments and averages."""
    published = {(n.model, n.dataset, n.resolution): n for n in references.select(table="3", metric="memory")}
    found: dict[tuple[str, str, int], tuple[Reference, Measurement]] = {}
    for count in counts:
        key = published_row(count.subject)
        if key in published and "saved bytes" in count.values:
            found[key] = (published[key], count)
    columns = [Column("model", numeric=False), Column("images", numeric=False), Column("batch")]
    columns += [Column("activations, GB"), Column("weights and states, GB"), Column("sum, GB")]
    columns += [Column("published, GB"), Column("published / counted")]
    columns += [Column("VDVAE / this, published"), Column("VDVAE / this, counted"), Column("config", numeric=False)]
    rows = []
    for key in sorted(found, key=lambda key: (key[1], key[2], key[0])):
        reference, count = found[key]
        activations, states = _training_bytes(reference, count)
        baseline = found.get(("VDVAE", *key[1:]))
        other = None if baseline is None else sum(_training_bytes(*baseline))
        total = activations + states
        rows.append(
            [
                word(reference.model),
                word(f"{reference.dataset} {reference.resolution}, {reference.bits} bits"),
                number(reference.settings["batch_size"], 0),
                number(activations / 1e9, 1),
                number(states / 1e9, 1),
                number(total / 1e9, 1),
                number(reference.value, 0),
                number(reference.value * 1e9 / total, 2),
                number(None if baseline is None else baseline[0].value / reference.value, 2, NOT_PUBLISHED),
                number(None if other is None else other / total, 2, NOT_PUBLISHED),
                word(count.subject),
            ]
        )
    note = (
        "Efficient-VDVAE, table 3: training memory over all devices at the batch size used. Counted here: batch times "
        f"activations, plus {BYTES_PER_PARAMETER} bytes per parameter once (weight, gradient, two moments, average; "
        "several devices hold several copies). VDVAE's 512 GB is 32 devices of 16 GB, memory held rather than used, "
        "so the two ratios against VDVAE answer different questions."
    )
    return Section("Training memory at the published batch sizes", columns, rows, note)


def _training_bytes(reference: Reference, count: Measurement) -> tuple[float, float]:
    """Bytes of activations at the published batch size, and of weights with all that is kept per weight."""
    batch = reference.settings["batch_size"]
    return batch * count.values["saved bytes"], BYTES_PER_PARAMETER * count.values["parameters"]


def published_row(config: str) -> tuple[str, str, int] | None:
    """Model, data set and resolution of the row of table 3 that a configuration's file name stands for.

    Example:
        >>> published_row("efficient_vdvae_imagenet32_c1")
        ('Efficient-VDVAE C1', 'ImageNet', 32)
    """
    match = re.fullmatch(r"(efficient_vdvae|vdvae)_([a-z]+)(\d+)(?:_(c1|baseline))?(_5bit)?", config)
    if match is None:
        return None
    family, dataset, size, kind, shallow = match.groups()
    names = {"cifar": "CIFAR-10", "imagenet": "ImageNet", "ffhq": "FFHQ"}
    if dataset not in names or (dataset == "ffhq") != bool(shallow):
        return None  # table 3 has FFHQ at 5 bits, the others at 8
    resolution = 32 if dataset == "cifar" else int(size)
    if family == "vdvae":
        return ("VDVAE", names[dataset], resolution) if kind is None else None
    model = {"c1": "Efficient-VDVAE C1", "baseline": "Efficient-VDVAE C2"}.get(kind or "")
    return None if model is None else (model, names[dataset], resolution)


def _name(count: Measurement) -> str:
    """Configuration, and stage if it has several networks."""
    stage = count.settings["stage"]
    return f"{count.subject} / {stage}" if stage else count.subject
