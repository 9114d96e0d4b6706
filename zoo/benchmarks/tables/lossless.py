"""Proof in bytes: what real files take, beside the estimate for the same images and beside classical codecs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zoo.benchmarks.records import Line, Measurement, Record, about, latest, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

LAYOUTS = {"tiles": "each tile its own file", "montage": "all tiles in one image"}
COLUMNS = [
    Column("checkpoint or codec", numeric=False),
    Column("tiles"),
    Column("estimate, bits/dim"),
    Column("at coded latents, bits/dim"),
    Column("coded net, bits/dim"),
    Column("net against estimate"),
    Column("gross, bits/dim"),
    Column("encode, tiles/s"),
    Column("decode, tiles/s"),
]


def build(records: Sequence[Line], references: References) -> Table:
    """Estimated and coded bits/dim of every shipped checkpoint, beside classical codecs on the same photographs.

    Args:
        records: stored lines; the newest with coded sizes of each checkpoint are shown.
        references: published coded sizes.
    """
    coded = [record for record in of_kind(records, Record) if record.coded_net is not None]
    classical = about(records, "classical")
    sections = []
    for key in sorted({(r.dataset, r.variant, r.bits) for r in coded}, key=lambda key: (key[:2], -key[2])):
        same = [record for record in latest(coded) if (record.dataset, record.variant, record.bits) == key]
        sections.append(_section(key, same, classical))
    sections.append(_published(references))
    return Table(
        name="lossless",
        title="Lossless coding: real files, decoded again and equal to the originals",
        intro=[
            "Estimate: the evaluator's bound for the same tiles, averaged over several draws. At coded latents: "
            "rate plus distortion of the latents in the file; the codec's posterior is another one (inactive "
            "latents come from the prior, the others lie on a finite grid), so this need not equal the estimate. "
            "Net: payload without the initial bits that bits-back borrows, the number to hold against the "
            "estimate. Gross: the whole file, header, check sums and initial bits included; initial bits are paid "
            "once per file, so gross falls towards net as files grow. Classical codecs have no initial bits: net "
            "and gross are one. VDM's first batch borrows bits for every step, far more than all tiles here hold: its "
            "plan is chosen for the net length, and its gross length says nothing.",
        ],
        sections=sections,
        notes=sorted({record.note for record in latest(coded) if record.note}),
    )


def _section(key: tuple[str, str, int], coded: Sequence[Record], classical: Iterable[Measurement]) -> Section:
    """Models and classical codecs on the same images at one depth."""
    dataset, _, bits = key
    rows = [_model_row(record) for record in sorted(coded, key=lambda record: record.coded_net or 0.0)]
    digests = {record.dataset_digest for record in coded}
    newest = {
        (line.settings["layout"], line.subject): line
        for line in classical
        if line.settings.get("digest") in digests and line.settings["bits"] == bits
    }
    for layout in LAYOUTS:
        lines = [line for (where, _), line in newest.items() if where == layout]
        rows += [_codec_row(line) for line in sorted(lines, key=lambda line: line.values["bits/dim"])]
    return Section(f"{dataset}, test split, 32x32 tiles, {bits} bits", COLUMNS, rows)


def _model_row(record: Record) -> list[Cell]:
    """Sizes and speeds of one checkpoint."""
    net, estimate = record.coded_net, record.coded_estimate
    against = None if not estimate or net is None else 100 * (net / estimate - 1)
    return [
        word(record.config),
        number(record.coded_images, 0),
        number(estimate),
        number(record.coded_bound),
        number(net),
        Cell("not run") if against is None else Cell(f"{against:+.2f} %", against),
        number(record.coded_gross),
        number(record.encode_rate, 1),
        number(record.decode_rate, 1),
    ]


def _codec_row(line: Measurement) -> list[Cell]:
    """Sizes and speeds of a classical codec."""
    values = line.values
    return [
        word(f"{line.subject}, {LAYOUTS[str(line.settings['layout'])]}"),
        number(values.get("tiles"), 0),
        Cell(NOT_PUBLISHED),
        Cell(NOT_PUBLISHED),
        number(values["bits/dim"]),
        Cell(NOT_PUBLISHED),
        number(values["bits/dim"]),
        number(values.get("encode tiles/s"), 1),
        number(values.get("decode tiles/s"), 1),
    ]


def _published(references: References) -> Section:
    """Coded sizes that others report for CIFAR-10."""
    rows: dict[tuple[str, str], dict[str, Reference]] = {}
    for reference in references.select(metric=("coded_net", "coded_single")):
        steps = reference.settings.get("steps") or reference.settings.get("layers")
        unit = "steps" if "steps" in reference.settings else "layers"
        rows.setdefault((reference.model, f"{steps} {unit}" if steps else ""), {})[reference.metric] = reference
    columns = [Column("system", numeric=False), Column("of", numeric=False), Column("its bound, bits/dim")]
    columns += [Column("whole set, net"), Column("one image alone"), Column("published in", numeric=False)]
    cells = []
    for (model, size), found in rows.items():
        net, single = found.get("coded_net"), found.get("coded_single")
        sources = dict.fromkeys(references.sources[reference.source].short for reference in found.values())
        at_least = "≥ " if single is not None and single.note == "at least" else ""
        cells.append(
            [
                word(model),
                word(size),
                _as_printed(net.settings.get("bound") if net else None),
                _as_printed(net.value if net else None),
                _as_printed(single.value if single else None, at_least),
                word("; ".join(sources)),
            ]
        )
    return Section("Published, CIFAR-10 test set, 8 bits", columns, cells, "Other images: not to be ranked with ours.")


def _as_printed(value: float | None, prefix: str = "") -> Cell:
    """A published number with the digits it was published with."""
    return Cell(NOT_PUBLISHED) if value is None else Cell(f"{prefix}{value:g}", value)
