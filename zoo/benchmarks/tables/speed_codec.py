"""Speed of coding photographs: megapixels per second of models and classical codecs, and what the coder adds."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Cell, Column, Section, Table, word
from zoo.benchmarks.tables.shared import MARKS, line_cell


def build(records: Sequence[Line], references: References) -> Table:
    """Megapixels per second of encoding and decoding, and the codec's time beside pricing the same tiles.

    Args:
        records: stored lines; those of `zoo measure speed_codec` are shown.
        references: not used: nothing is published for these photographs.
    """
    newest = {line.subject: line for line in about(records, "speed_codec")}
    models = [line for line in newest.values() if "encode / terms" in line.values]
    classical = [line for line in newest.values() if "encode / terms" not in line.values]
    columns = [Column("codec", numeric=False), Column("encode MP/s"), Column("decode MP/s")]
    columns += [Column("encode / terms"), Column("decode / terms"), Column("encode outside the network")]
    columns += [Column("bits/dim in the file", numeric=True)]
    section = Section("The bundled test photographs", columns, [_row(line) for line in (*models, *classical)])
    notes = [
        "Terms: pricing the same tiles in the same batches. Verification is not counted. Compare one machine only.",
        "Outside the network: share of encoding that is not one pass of the network with sampled latents.",
    ]
    ask = "`zoo measure speed_codec CKPT` measures this machine"
    sections = [section] if newest else []
    return Table("speed_codec", "Speed of coding", sections, marks=MARKS, notes=notes, expects=ask)


def _row(line: Measurement) -> list[Cell]:
    names = ("encode MP/s", "decode MP/s", "encode / terms", "decode / terms", "encode outside the network", "bits/dim")
    digits = (4, 4, 2, 2, 2, 3)
    cells = [line_cell(line, name, count, why="models only") for name, count in zip(names, digits, strict=True)]
    return [word(line.subject), *cells]
