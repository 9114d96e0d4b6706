"""Proof in bytes: what real files take, beside the estimate for the same images and beside classical codecs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zoo.benchmarks.records import Line, Measurement, Record, about, best, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables.printed import Joined, printed
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell, provenance

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
        same = [record for record in best(coded) if (record.dataset, record.variant, record.bits) == key]
        sections.append(_section(key, same, classical))
    sections += _published(references, joined(records, references))
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
        marks=MARKS,
        notes=sorted({record.note for record in best(coded) if record.note}),
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
        number(net, record=provenance(record)),
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
        Cell(NOT_PUBLISHED, why="a classical codec has no estimate"),
        Cell(NOT_PUBLISHED, why="a classical codec has no estimate"),
        number(values["bits/dim"]),
        Cell(NOT_PUBLISHED, why="a classical codec has no estimate"),
        line_cell(line, "bits/dim", 3),
        number(values.get("encode tiles/s"), 1),
        number(values.get("decode tiles/s"), 1),
    ]


def _published(references: References, found: Joined) -> list[Section]:
    """Coded sizes that others report for CIFAR-10."""
    metrics = {"coded_net": ("whole set, net", 2), "coded_single": ("one image alone", 2), "nll": ("its bound", 2)}
    note = "Published, CIFAR-10 test set, 8 bits: other images, not to be ranked with ours."
    places = (
        ("ardm", "3", ["steps"]),
        ("vdm_paper", "2", ["train_steps", "steps"]),
        ("bitswap_repo", "arrays", ["layers"]),
    )
    return [
        printed(
            references,
            found,
            f"Published: {references.sources[source].short}",
            metrics,
            {"source": source, "table": table},
            settings=settings,
            note=note,
        )
        for source, table, settings in places
    ]
