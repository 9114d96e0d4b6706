"""Posterior pruning: share of posteriors kept against bound, distortion, rate and size."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, number
from zoo.benchmarks.tables import hazami2022
from zoo.benchmarks.tables.shared import MARKS, joined, line_cell
from zoo.errors import UserError
from zoo.pictures import Curve, Plot, save_plot


def build(records: Sequence[Line], references: References, *, plot: str | None = None) -> Table:
    """Posteriors kept against the bound, published beside measured.

    Args:
        records: stored lines.
        references: published numbers.
        plot: PNG file to draw the curves in.
    """
    groups = _groups(about(records, "pruning"))
    if plot is not None:
        _plot(groups, plot)
    published = hazami2022.section("5", references, joined(records, references))
    return Table(
        name="pruning",
        title="Posterior pruning: the prior speaks where posteriors are pruned",
        intro=["Hazami et al. (2022), section 7. Size: mean and standard deviation in float32 for every latent kept."],
        sections=[published, *(_section(key, group) for key, group in groups.items())],
        marks=MARKS,
        notes=[
            "100 % is the plain evaluation, 0 % prices images without having seen them; every row is a bound.",
            "The published sizes are those of the training part; measured sizes are those of the split priced.",
        ],
    )


Key = tuple[str, ...]
VALUES = {"kept_latents": 0, "megabytes": 3, "bits_per_dim": 3, "standard_error": 3, "distortion": 3, "rate": 3}


def _groups(lines: Sequence[Measurement]) -> dict[Key, dict[float, Measurement]]:
    """The latest line of every share, by what was measured."""
    groups: dict[Key, dict[float, Measurement]] = {}
    for line in lines:
        settings = line.settings
        names = ("model", "dataset", "split", "images", "statistics", "granularity", "weights", "dataset_digest")
        key = (line.subject, *(str(settings[name]) for name in names))
        groups.setdefault(key, {})[float(settings["percent"] or 0.0)] = line
    return groups


def _section(key: Key, group: dict[float, Measurement]) -> Section:
    """Measured rows of one checkpoint."""
    subject, model, dataset, split, images, statistics, granularity, *_ = key
    names = ("kept, %", "latents kept", "size, MB", "bits/dim", "±", "distortion", "rate")
    rows = []
    for share, line in sorted(group.items()):
        rows.append([number(share, 1), *(line_cell(line, name, digits) for name, digits in VALUES.items())])
    some = next(iter(group.values()))
    what = f"{some.settings['resolution']}x{some.settings['resolution']}, {some.settings['bits']} bits"
    note = (
        f"{images} images of {dataset}/{split}; kept by mean KL over {dataset}/{statistics}, per {granularity}; "
        f"{some.values['latents']:,.0f} latents per image."
    )
    title = f"Measured: {model}, {subject}, {what}"
    plot = Plot(_curves({key: group}), title, "posteriors kept, %", "bits/dim", log_x=True)
    return Section(title, [Column(name) for name in names], rows, note, plots=[plot])


def _curves(groups: dict[Key, dict[float, Measurement]]) -> list[Curve]:
    """Bound, distortion and rate against the share kept."""
    curves = []
    for key, group in groups.items():
        for name, dashed in (("bits_per_dim", False), ("distortion", True), ("rate", True)):
            points = [(share, line.values[name]) for share, line in sorted(group.items()) if share > 0]
            label = name.replace("bits_per_dim", "bound")
            curves.append(Curve(label if len(groups) == 1 else f"{key[0][:18]} {label}", points, dashed))
    return curves


def _plot(groups: dict[Key, dict[float, Measurement]], path: str) -> None:
    """The curves as a picture file."""
    if not groups:
        raise UserError("--plot: nothing is measured yet; `zoo measure pruning CKPT` does")
    title = next(iter(groups))[0] if len(groups) == 1 else "posterior pruning"
    save_plot(path, Plot(_curves(groups), title, "posteriors kept, %", "bits/dim", log_x=True))
    print(f"wrote {path}")
