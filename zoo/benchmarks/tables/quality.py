"""Quality of samples and reconstructions: published beside measured."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

SCORES = {"fid": "FID", "precision": "precision", "recall": "recall"}
CAS = {"cas_top1": "top-1 %", "cas_top5": "top-5 %"}
MARKS = {
    "~": 'the source says "about" or "roughly"',
    "ᵃ": "FID, precision and recall of the ADM evaluator: Inception features, k = 3",
}
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
            *_published_sections(references),
            *_accuracy_section(references),
        ],
        marks=MARKS,
    )


def _measured_sections(lines: Sequence[Measurement]) -> list[Section]:
    """One section per data set, size, feature network and count: only its rows may be compared."""
    groups: dict[tuple, list[Measurement]] = {}
    for line in lines:
        s = line.settings
        key = tuple(s.get(name) for name in ("dataset", "split", "resolution", "extractor", "real", "samples"))
        groups.setdefault(key, []).append(line)
    return [_measured_section(key, group) for key, group in groups.items()]


def _measured_section(key: tuple, lines: Sequence[Measurement]) -> Section:
    dataset, split, side, extractor, real, samples = key
    names = list(dict.fromkeys(name for line in lines for name in line.values))
    names.sort(key=lambda name: (name in MEASURED, list(MEASURED).index(name) if name in MEASURED else 0))
    heads = [MEASURED.get(name, (name, 4 if name.startswith("kd") else 2)) for name in names]
    rows = []
    for line in lines:
        guided = ", guided" if line.settings.get("guidance_mean") or line.settings.get("guidance_std") else ""
        cells = [number(line.values.get(n), d, NOT_PUBLISHED) for n, (_, d) in zip(names, heads, strict=True)]
        rows.append([word(f"{line.subject}{guided}"), *cells])
    return Section(
        f"measured: {dataset} {split} {side}x{side}, network {extractor}, {real} real images, {samples} samples",
        [Column("model", numeric=False), *(Column(title) for title, _ in heads)],
        rows,
        note="r… compares reconstructions with originals, …_star samples with reconstructions.",
    )


def _published_sections(references: References) -> list[Section]:
    """FID, precision and recall by data set."""
    rows: dict[tuple[str, int], dict[tuple[str, str, str], dict[str, Reference]]] = {}
    for reference in references.select(metric=tuple(SCORES)):
        place = rows.setdefault((reference.dataset, reference.resolution), {})
        place.setdefault((reference.model, reference.source, reference.table), {})[reference.metric] = reference
    columns = [Column("model", numeric=False), *(Column(name) for name in SCORES.values())]
    columns.append(Column("source", numeric=False))
    return [
        Section(
            f"published: {dataset} {side}x{side}",
            columns,
            [
                [word(model), *(_published(cells.get(metric)) for metric in SCORES), _source(references, source, table)]
                for (model, source, table), cells in models.items()
            ],
        )
        for (dataset, side), models in rows.items()
    ]


def _accuracy_section(references: References) -> list[Section]:
    """Classification accuracy scores."""
    rows: dict[tuple[str, str, str], dict[str, Reference]] = {}
    for reference in references.select(metric=tuple(CAS)):
        rows.setdefault((reference.model, reference.source, reference.table), {})[reference.metric] = reference
    if not rows:
        return []
    columns = [Column("classifier trained on", numeric=False), *(Column(name) for name in CAS.values())]
    return [
        Section(
            "published: classification accuracy score, ImageNet 256x256, ResNet-50",
            [*columns, Column("source", numeric=False)],
            [
                [word(model), *(_published(cells.get(metric)) for metric in CAS), _source(references, source, table)]
                for (model, source, table), cells in rows.items()
            ],
        )
    ]


def _published(reference: Reference | None) -> Cell:
    if reference is None:
        return Cell(NOT_PUBLISHED)
    marks = ["~"] * reference.approximate + ["ᵃ"] * (reference.variant == "ADM evaluator")
    return number(reference.value, 2, marks=marks)


def _source(references: References, source: str, table: str) -> Cell:
    return word(f"{references.sources[source].short} {'t' if table[:1].isdigit() else ''}{table}")
