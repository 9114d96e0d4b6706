"""Quality of samples and reconstructions: published beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, word
from zoo.benchmarks.tables import luhman2023, razavi2019
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell

MEASURED = {  # score -> heading, decimals; the rest are shown under their own names
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "inception_score": ("IS", 2),
    "mse01": ("MSE [0,1]", 5),
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "cas_top1": ("CAS top-1 %", 2),
    "cas_top5": ("CAS top-5 %", 2),
}


def build(records: Sequence[Line], references: References) -> Table:
    """FID, precision and recall, Inception Score, reconstruction FID and FID*, classification accuracy score.

    Args:
        records: stored lines; those of `zoo measure quality` are shown.
        references: published numbers.
    """
    found = joined(records, references)
    return Table(
        name="quality",
        title="Sample and reconstruction quality: published beside measured",
        intro=[
            "FID: lower is better; precision, recall and classification accuracy: higher is better. Numbers of other "
            "feature networks, image sizes or sample counts cannot be ranked: those measured here carry the network's "
            "name (fd_vgg16 is no FID) and stand in sections of their own.",
        ],
        sections=[
            *_measured_sections(about(records, "quality")),
            *razavi2019.sections(references, found, "Table 2"),
            *razavi2019.sections(references, found, "Section"),
            *(section for table in range(1, 4) for section in luhman2023.sections(references, found, f"Table {table}")),
        ],
        marks=MARKS,
    )


def _measured_sections(lines: Sequence[Measurement]) -> list[Section]:
    """One section per data set, size, feature network and count: only its rows may be compared."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for line in lines:
        s = line.settings
        key = tuple(s.get(name) for name in ("dataset", "split", "resolution", "extractor", "real", "samples"))
        groups.setdefault(key, []).append(line)
    return [_measured_section(key, group) for key, group in groups.items()]


def _measured_section(key: tuple[object, ...], lines: Sequence[Measurement]) -> Section:
    dataset, split, side, extractor, real, samples = key
    names = list(dict.fromkeys(name for line in lines for name in line.values))
    names.sort(key=lambda name: (name in MEASURED, list(MEASURED).index(name) if name in MEASURED else 0))
    heads = [MEASURED.get(name, (name, 4 if name.startswith("kd") else 2)) for name in names]
    rows = []
    for line in lines:
        guided = ", guided" if line.settings.get("guidance_mean") or line.settings.get("guidance_std") else ""
        cells = [line_cell(line, n, d) for n, (_, d) in zip(names, heads, strict=True)]
        rows.append([word(f"{line.subject}{guided}"), *cells])
    return Section(
        f"measured: {dataset} {split} {side}x{side}, network {extractor}, {real} real images, {samples} samples",
        [Column("model", numeric=False), *(Column(title) for title, _ in heads)],
        rows,
        note="r… compares reconstructions with originals, …_star samples with reconstructions.",
    )
