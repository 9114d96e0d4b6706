"""Quality over the rejection rate (Razavi et al. 2019, figure 7): what a classifier leaves of a model's samples."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, number
from zoo.benchmarks.tables import razavi2019
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell
from zoo.pictures import Curve, Plot

SIZE = (640, 400)


def build(records: Sequence[Line], references: References) -> Table:
    """Scores of the samples that are kept, by the share that is rejected.

    Args:
        records: stored lines; those of `zoo measure rejection` are shown.
        references: published numbers.
    """
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for line in about(records, "rejection"):
        key = (line.subject, *(line.settings.get(name) for name in ("extractor", "classifier", "samples")))
        groups.setdefault(key, []).append(line)
    published = razavi2019.sections(references, joined(records, references), "Section")
    return Table(
        name="rejection",
        title="Rejection: samples that a classifier keeps",
        intro=[
            "Of many samples of a class those with the highest probability of that class are kept: precision rises, "
            "recall falls. The likelihood of a model says nothing about what is left."
        ],
        sections=[*(_section(key, lines) for key, lines in groups.items()), *published],
        marks=MARKS,
        notes=["The paper draws these curves; its text gives the two ends of the one of FID."],
    )


def _section(key: tuple[object, ...], lines: Sequence[Measurement]) -> Section:
    """One model: a row for every rate, and a picture for every score."""
    subject, extractor, classifier, samples = key
    newest = {1.0 - float(line.settings["keep"] or 0.0): line for line in lines}
    names = list(dict.fromkeys(name for line in newest.values() for name in line.values))
    rows = [[number(rate, 2), *(line_cell(line, name, 3) for name in names)] for rate, line in sorted(newest.items())]
    plots = [
        Plot(
            [Curve(name, [(rate, line.values[name]) for rate, line in sorted(newest.items()) if name in line.values])],
            f"{name}, {subject}",
            "share rejected",
            name,
            size=SIZE,
        )
        for name in names
    ]
    title = f"Measured: {subject}, network {extractor}"
    note = f"{samples} samples kept, judged by {classifier}."
    columns = [Column("rejected"), *(Column(name) for name in names)]
    return Section(title, columns, rows, note, plots=plots)
