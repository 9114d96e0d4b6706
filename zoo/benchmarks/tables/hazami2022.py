"""Tables 1 to 9 of Efficient-VDVAE (Hazami et al. 2022), published beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables.printed import Joined, joined_cell, printed
from zoo.benchmarks.tables.shared import MARKS, joined, published_cell

NLL = {"nll": ("bits/dim", 2)}
STABILITY = {"nll": ("bits/dim", 2), "skipped_updates": ("skipped updates", 0)}
OURS = ("VDVAE", "VDM", "Efficient-VDVAE")


MEMORY = {**NLL, "memory": ("memory, GB", 0)}
PRUNED = {**NLL, "reconstruction": ("distortion", 2), "kl": ("rate", 2), "encoded_size": ("size, GB", 0)}
LAYERS, SMOOTHED = ["layers_32_16_8_4_1"], ["batch_size", "gradient_smoothing"]
PRINTED: dict[str, tuple[str, dict[str, tuple[str, int]], dict[str, Any]]] = {
    "1a": ("layers by resolution", MEMORY, {"settings": LAYERS}),
    "1b": ("width by resolution, 84 stochastic layers", MEMORY, {"settings": ["widths_32_16_8_4_1"]}),
    "2a": ("gradient smoothing, CIFAR-10, 500,000 steps, skipped from 800", STABILITY, {"settings": SMOOTHED}),
    "2b": (
        "gradient smoothing at 1024x1024, beta 0.4, 80,000 steps, skipped from 1,200",
        {"skipped_updates": STABILITY["skipped_updates"]},
        {"name": "dataset", "settings": SMOOTHED, "note": "The runs without gradient smoothing diverged."},
    ),
    "5": (
        "share of the posteriors that is kept, FFHQ 256x256, 8 bits",
        PRUNED,
        {
            "settings": ["percent_posteriors"],
            "by_value": False,
            "note": "Its caption says FFHQ, the text of section 7 says CelebA-HQ.",
        },
    ),
    "7": (
        "gradient smoothing by depth, FFHQ 256x256, 8 bits, batch size 8",
        STABILITY,
        {"settings": ["depth", "gradient_smoothing"]},
    ),
    "8": ("layers of the bottom-up half", MEMORY, {"settings": ["bottom_up_depth", "top_down_depth"]}),
    "9": ("fewer layers at the highest resolution", MEMORY, {"settings": LAYERS}),
}
"""Number of a printed table -> title, metrics, and how it is shown."""


def build(records: Sequence[Line], references: References) -> Table:
    """Every table of the paper: the matrix of models and data sets, costs, ablations, pruning, depths.

    Args:
        records: stored lines; those that reproduce rows of the paper are shown beside them.
        references: published numbers.
    """
    found = joined(records, references)
    order = ("4", "3", "1a", "1b", "2a", "2b", "5", "6", "7", "8", "9")
    return Table(
        name="hazami2022",
        title="Efficient-VDVAE (Hazami et al. 2022), tables 1 to 9",
        intro=[
            "Published numbers link to the paper, measured ones to their record. ImageNet columns mix two "
            "preparations of the images, which differ by about 0.26 bits/dim: see the table `nll` for what may be "
            "ranked. At 5 bits the released likelihood is not normalised (‡)."
        ],
        sections=[section(number, references, found) for number in order],
        marks=MARKS,
    )


def section(number: str, references: References, found: Joined) -> Section:
    """One of the paper's tables."""
    if number == "3":
        return costs(references, found)
    if number == "4":
        return matrix(references, found)
    if number == "6":
        return layers(references)
    title, metrics, options = PRINTED[number]
    where = {"source": "efficient_vdvae", "table": number}
    return printed(references, found, f"Table {number}: {title}", metrics, where, **options)


def costs(references: References, found: Joined) -> Section:
    """Table 3: sizes, memory and training times beside the likelihood."""
    metrics = {
        **NLL,
        "parameters": ("parameters, M", 0),
        "memory": ("memory, GB", 0),
        "train_time": ("training, hours", 0),
        "train_iterations": ("iterations, thousand", 0),
    }
    settings = ["layers", "width", "batch_size", "learning_rate", "lr_schedule", "optimizer"]

    def name(number: Reference) -> str:
        return f"{number.model}, {number.dataset} {number.resolution}, {number.bits} bits"

    note = "The VDVAE rows on ImageNet are on the older, harder images; memory is over all devices."
    where = {"source": "efficient_vdvae", "table": "3"}
    options: dict[str, Any] = {"name": name, "settings": settings, "note": note, "by_value": False}
    return printed(references, found, "Table 3: costs", metrics, where, **options)


def matrix(references: References, found: Joined) -> Section:
    """Table 4: models down, data sets across; below a model what was measured for its row."""
    numbers = list(references.select(source="efficient_vdvae", table="4", metric="nll"))
    places = sorted({_place(n) for n in numbers}, key=lambda place: (place[1], place[0], -place[2]))
    columns = [Column("model", numeric=False)]
    columns += [
        Column(f"{dataset} {side}, {'nats' if bits == 1 else f'{bits} bits'}", bits=bits)
        for dataset, side, bits in places
    ]
    models: dict[tuple[str, bool], dict[tuple[str, int, int], Reference]] = {}
    for n in numbers:
        models.setdefault((n.model, False), {})[_place(n)] = n
    rows = []
    for (model, _), cells in models.items():
        values = [
            published_cell([cells[p]] if p in cells else [], references, why="the paper has no such cell")
            for p in places
        ]
        rows.append([word(model), *values])
        if model.startswith(OURS):
            rows.append([word(f"{model}, measured here"), *(_measured(cells.get(p), found) for p in places)])
    note = "As printed: models in the paper's order. Two preparations of ImageNet share a column; marks say which."
    return Section("Table 4: models and data sets", columns, rows, note)


def _place(number: Reference) -> tuple[str, int, int]:
    return (number.dataset, number.resolution, number.bits)


def _measured(reference: Reference | None, found: Joined) -> Cell:
    if reference is None:
        return Cell(NOT_PUBLISHED, why="the paper has no such cell, so nothing is to be reproduced")
    return joined_cell(found.get(reference.id), "nll", 3)


def layers(references: References) -> Section:
    """Table 6: stochastic layers per resolution."""
    sides = sorted({side for depth in references.depths for side in depth.resolutions})
    columns = [Column("model", numeric=False), Column("data", numeric=False), Column("all layers")]
    columns += [Column(f"{side}x{side}") for side in sides]
    rows = []
    for depth in references.depths:
        link, refs = references.sources[depth.source].url, (depth.id,)
        counts = dict(zip(depth.resolutions, depth.layers, strict=True))
        total = number(sum(depth.layers), 0, link=link, refs=refs)
        cells = [number(counts.get(side), 0, NOT_PUBLISHED, why="no layers of this side") for side in sides]
        rows.append([word(depth.model), word(depth.dataset), total, *cells])
    return Section("Table 6: stochastic layers by resolution", columns, rows)
