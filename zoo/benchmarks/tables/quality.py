"""Quality of samples and reconstructions: published beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Line, Measurement, of_kind
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word

TABLE = "quality"
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


def build(
    records: Sequence[Line],
    references: References,
    *,
    checkpoints: list[str] = [],  # noqa: B006 (shown in the help, never changed)
    samples: list[Path] = [],  # noqa: B006
    dataset: str = "photos",
    split: str = "test",
    extractor: str = "inception",
    count: int = 1000,
    size: int | None = None,
    batch_size: int = 32,
    temperature: float = 1.0,
    guidance_mean: float = 0.0,
    guidance_std: float = 0.0,
    cas_epochs: int = 0,
    seed: int = 0,
    save: str = "records/quality.jsonl",
) -> Table:
    """FID, precision and recall, Inception Score, reconstruction FID and FID*, classification accuracy score.

    Args:
        records: stored lines; those of this table are shown.
        references: published numbers.
        checkpoints: models to measure now: as many samples as real images, and reconstructions where there is a first
            stage.
        samples: files of samples to measure now, npz as the ADM evaluator reads it.
        dataset: prepared data set with the real images.
        split: of the data set.
        extractor: feature network: inception (downloaded when first used), vgg16, digits, pixels or a TorchScript file.
        count: real images, and samples drawn.
        size: side of the images, for a first stage alone, which has none; null = the model's own.
        batch_size: samples drawn at once.
        temperature: of the samples.
        guidance_mean: strength of guidance of the means, for class-conditional latent VAEs.
        guidance_std: strength of guidance of the standard deviations.
        cas_epochs: passes over the samples for the classification accuracy score; 0 leaves it out.
        seed: of the samples.
        save: file that measured lines are appended to.
    """
    lines = [line for line in of_kind(records, Measurement) if line.table == TABLE]
    if checkpoints or samples:
        options = {"temperature": temperature}
        options |= {"guidance_mean": guidance_mean} if guidance_mean else {}
        options |= {"guidance_std": guidance_std} if guidance_std else {}
        for line in _measure(
            checkpoints, samples, dataset, split, extractor, count, size, batch_size, options, cas_epochs, seed
        ):
            store.append(Path(save), line)
            lines.append(line)
    return Table(
        name=TABLE,
        title="Sample and reconstruction quality: published beside measured",
        intro=[
            "FID: lower is better; precision, recall and classification accuracy: higher is better. Numbers of other "
            "feature networks, image sizes or sample counts cannot be ranked: those measured here carry the network's "
            "name (fd_vgg16 is no FID) and stand in sections of their own.",
        ],
        sections=[*_measured_sections(lines), *_published_sections(references), *_accuracy_section(references)],
        marks=MARKS,
    )


def _measure(
    checkpoints: Sequence[str],
    samples: Sequence[Path],
    dataset: str,
    split: str,
    extractor: str,
    count: int,
    size: int | None,
    batch_size: int,
    options: dict[str, float],
    cas_epochs: int,
    seed: int,
) -> list[Measurement]:
    """A line for each checkpoint and each file of samples."""
    from zoo.benchmarks.measures import quality
    from zoo.benchmarks.measures.metrics import load_extractor
    from zoo.checkpoints import load
    from zoo.data import open_split
    from zoo.likelihood import LikelihoodModel

    network = load_extractor(extractor)
    lines = []
    settings = {"dataset": dataset, "split": split, "seed": seed, **options}
    for checkpoint in checkpoints:
        loaded = load(checkpoint)
        model = loaded.network
        draws = isinstance(model, LikelihoodModel)  # a first stage alone makes reconstructions only, of any size
        shape = (3, size, size) if size else model.image_shape if draws else (3, 0, 0)
        loader = open_split(dataset, split, shape, loaded.data, whole=not draws and not size)
        real = quality.Images(*loader.first(count))
        fake = quality.drawn_images(model, real.labels, batch_size, seed, **options) if draws else None
        named = settings | {"resolution": real.pixels.shape[-1]}
        lines.append(quality.measure(checkpoint, model, real, fake, network, named, cas_epochs))
    for path in samples:
        fake = quality.stored_images(path)
        side = fake.pixels.shape[-1]
        real = quality.Images(*open_split(dataset, split, fake.pixels.shape[1:]).first(count))
        named = {"dataset": dataset, "split": split, "resolution": side}
        lines.append(quality.measure(path.stem, None, real, fake, network, named, cas_epochs))
    return lines


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
