"""Priors over codes and the error of reconstructions: published beside measured (Razavi et al. 2019, table 1)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import NOT_PUBLISHED, Column, Section, Table, number, word

METRICS = {"prior_nll": "NLL per code", "mse": "MSE"}
DIGITS = {"NLL per code": 2, "MSE": 4}


def build(records: Sequence[Line], references: References) -> Table:
    """Negative log-likelihood of each level's prior and mean squared error of the decoder, train and held out.

    Args:
        records: stored lines; those of `zoo measure codes` are shown.
        references: published numbers.
    """
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
        sections=[_published(references), *_measured(about(records, "codes"))],
    )


def _published(references: References) -> Section:
    """Table 1 of the paper."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for reference in references.select(metric=tuple(METRICS)):
        if reference.source == "vqvae2":
            split = str(reference.settings.get("split"))
            values.setdefault((reference.model, METRICS[reference.metric]), {})[split] = reference.value
    return Section(
        "published: VQ-VAE-2, ImageNet 256x256 (table 1)",
        [Column("part", numeric=False), Column("quantity", numeric=False), Column("train"), Column("validation")],
        [
            [
                word(model),
                word(metric),
                *(number(found.get(split), DIGITS[metric], NOT_PUBLISHED) for split in ("train", "validation")),
            ]
            for (model, metric), found in values.items()
        ],
    )


def _measured(lines: Sequence[Measurement]) -> list[Section]:
    """One section per model and depth; the last line of each split counts."""
    groups: dict[tuple, dict[str, Measurement]] = {}
    for line in lines:
        s = line.settings
        key = (line.subject, s.get("dataset"), s.get("resolution"), s.get("bits"))
        groups.setdefault(key, {})[str(s.get("split"))] = line
    return [_section(*key, splits) for key, splits in groups.items()]


def _section(subject: str, dataset: str, side: int, bits: int, splits: dict[str, Measurement]) -> Section:
    """Quantities down, splits across."""
    names = list(dict.fromkeys(name for line in splits.values() for name in line.values))
    digits = {name: 5 if name.startswith("mse") else 4 if name.startswith("rate") else 3 for name in names}
    rows = [[word(name), *(number(line.values.get(name), digits[name]) for line in splits.values())] for name in names]
    images = ", ".join(f"{split} {line.settings.get('images')}" for split, line in splits.items())
    return Section(
        f"measured: {subject}, {dataset} {side}x{side}, {bits} bits",
        [Column("quantity", numeric=False), *(Column(split) for split in splits)],
        rows,
        note=f"images: {images}",
    )
