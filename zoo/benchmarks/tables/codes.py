"""Priors over codes and the error of reconstructions: published beside measured (Razavi et al. 2019, table 1)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, word
from zoo.benchmarks.tables import razavi2019
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell


def build(records: Sequence[Line], references: References) -> Table:
    """Negative log-likelihood of each level's prior and mean squared error of the decoder, train and held out.

    Args:
        records: stored lines; those of `zoo measure codes` are shown.
        references: published numbers.
    """
    published = razavi2019.sections(references, joined(records, references), "Table 1")
    return Table(
        name="codes",
        title="Priors over codes: published beside measured",
        intro=[
            "These numbers price the codes of a first stage, not pixels: they compare only priors over the same codes, "
            "and never stand in a column of bits/dim.",
            "The paper does not state the unit of its likelihoods. A mean softmax cross-entropy comes in nats; then "
            "3.41 and 3.45 are 4.92 and 4.98 bits per code, where a uniform prior over 512 codes costs 9. Nor does it "
            "state the pixel scale of its error: both are shown for ours.",
        ],
        sections=[*published, *_measured(about(records, "codes"))],
        marks=MARKS,
    )


def _measured(lines: Sequence[Measurement]) -> list[Section]:
    """One section per model and depth; the last line of each split counts."""
    groups: dict[tuple[str, str, int, int], dict[str, Measurement]] = {}
    for line in lines:
        s = line.settings
        key = (line.subject, str(s.get("dataset")), int(s.get("resolution") or 0), int(s.get("bits") or 0))
        groups.setdefault(key, {})[str(s.get("split"))] = line
    return [_section(*key, splits) for key, splits in groups.items()]


def _section(subject: str, dataset: str, side: int, bits: int, splits: dict[str, Measurement]) -> Section:
    """Quantities down, splits across."""
    names = list(dict.fromkeys(name for line in splits.values() for name in line.values))
    digits = {name: 5 if name.startswith("mse") else 4 if name.startswith("rate") else 3 for name in names}
    rows = [[word(name), *(line_cell(line, name, digits[name]) for line in splits.values())] for name in names]
    images = ", ".join(f"{split} {line.settings.get('images')}" for split, line in splits.items())
    return Section(
        f"measured: {subject}, {dataset} {side}x{side}, {bits} bits",
        [Column("quantity", numeric=False), *(Column(split) for split in splits)],
        rows,
        note=f"images: {images}",
    )
