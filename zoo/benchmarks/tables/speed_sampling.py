"""Speed of drawing images: seconds per 1000 images of every model, and what the cache of the PixelSNAIL walk saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Line, Measurement, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Cell, Column, Section, Table, number, word
from zoo.benchmarks.tables.speed import configured_networks, is_configuration
from zoo.errors import UserError

SAMPLING, CACHE = "sampling", "cached walk"


def build(
    records: Sequence[Line],
    references: References,
    *,
    models: list[str] = [],  # noqa: B006 - shown in the help
    priors: list[str] = [],  # noqa: B006 - shown in the help
    images: int = 16,
    batch_size: int = 16,
    prior_batch: int = 1,
    steps: int = 250,
    save: str = "records/speed_sampling.jsonl",
) -> Table:
    """Seconds per 1000 images, published beside measured, and the cached walk of PixelSNAIL against recomputing.

    Args:
        records: stored lines.
        references: published times.
        models: measure these now: paths or names of checkpoints, or `all` for everything that ships.
        priors: measure the cached walk of these now: checkpoints or configurations with a PixelSNAIL in them.
        images: drawn and timed with each model.
        batch_size: images drawn at once.
        prior_batch: grids drawn at once by the cached walk.
        steps: steps of diffusion models.
        save: file the measurements are appended to.
    """
    if min(images, batch_size, prior_batch, steps) < 1:
        raise UserError("--images, --batch_size, --prior_batch and --steps: expected at least 1")
    lines = [line for line in of_kind(records, Measurement) if line.table == "speed_sampling"]
    for line in _measure(models, priors, images, batch_size, prior_batch, steps):
        store.append(save, line)
        lines.append(line)
    return Table(
        name="speed_sampling",
        title="Speed of drawing images",
        sections=[_published(references), *_measured(lines)],
        notes=[
            "Machines, image sizes and guidance differ between the sections: compare within one only.",
            "Cached walk: processor seconds of one batch. Rows: each symbol of row i recomputes rows 0 to i, as the "
            "public implementation does; whole grid: each symbol recomputes everything. Both are summed from timed "
            "passes.",
        ],
    )


def _measure(
    models: list[str], priors: list[str], images: int, batch_size: int, prior_batch: int, steps: int
) -> Iterator[Measurement]:
    """The measurements asked for, one at a time so that each is saved as soon as it is known."""
    from zoo.checkpoints import names

    for name in names() if models == ["all"] else models:
        yield measure_model(name, images, batch_size, steps)
    for path in priors:
        for stage, network in _walkable(path):
            yield measure_walk(f"{Path(path).stem} {stage}".strip(), network, prior_batch)


def measure_model(name: str, images: int, batch_size: int, steps: int) -> Measurement:
    """Seconds per 1000 images of one checkpoint."""
    import torch

    from zoo.benchmarks.measures.sampling import seconds_per_thousand
    from zoo.checkpoints import load

    loaded = load(name)
    network: Any = loaded.network
    chosen = {}
    if network.steps is not None:
        network.steps = chosen["steps"] = steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seconds = seconds_per_thousand(network, images, batch_size)
    size = "x".join(map(str, network.image_shape[1:]))
    settings = {"model": type(network).__name__, "size": size, "images": images, "batch_size": batch_size}
    settings |= {"weights": loaded.digest, "threads": torch.get_num_threads()} | chosen
    values = {"seconds per 1000 images": seconds}
    return Measurement(
        table="speed_sampling",
        subject=SAMPLING,
        settings={"name": Path(name).stem} | settings,
        values=values,
        **store.stamp(),
    )


def measure_walk(name: str, network: Any, batch: int) -> Measurement:
    """Processor seconds of the cached walk and of recomputing."""
    import torch

    from zoo.models.pixelsnail import sampling_speed

    speed = sampling_speed(network, batch)
    settings = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "grid": f"{speed.height}x{speed.width}",
        "batch_size": batch,
        "threads": torch.get_num_threads(),
    }
    values = {"cached": speed.cached, "rows": speed.rows, "whole": speed.whole}
    return Measurement(table="speed_sampling", subject=CACHE, settings=settings, values=values, **store.stamp())


def _walkable(path: str) -> Iterator[tuple[str, Any]]:
    """Every network in a configuration or checkpoint that walks a grid without needing upper codes first."""
    from zoo.checkpoints import build as build_network
    from zoo.checkpoints import load
    from zoo.models import PixelSNAIL
    from zoo.models.pixelsnail import CodePrior

    found: list[tuple[str, Any]] = []
    if is_configuration(path):
        specs = configured_networks(path, "--priors")
        walks = [
            (stage, spec) for stage, spec in specs if spec["class_path"].split(".")[-1] in ("CodePrior", "PixelSNAIL")
        ]
        found = [(stage, build_network(spec)) for stage, spec in walks]
    else:
        network: Any = load(path).network
        found = [("", module) for module in network.modules() if isinstance(module, CodePrior | PixelSNAIL)]
    walkable = [(stage, n) for stage, n in found if isinstance(n, PixelSNAIL) or len(n.grids) == 1]
    if not walkable:
        raise UserError(f"--priors {path}: no PixelSNAIL and no prior of a top level in it")
    yield from walkable


def _published(references: References) -> Section:
    """Table 4 of Luhman and Luhman (2023) and whatever else is known."""
    columns = [Column("model", numeric=False), Column("images", numeric=False), Column("s per 1000 images")]
    columns += [Column("hardware", numeric=False), Column("published in", numeric=False)]
    rows: list[list[Cell]] = []
    for reference in references.select(metric=("sampling_time",)):
        source = references.sources[reference.source].short
        images = f"{reference.dataset} {reference.resolution}x{reference.resolution}"
        hardware = str(reference.settings.get("hardware", ""))
        rows.append([word(reference.model), word(images), number(reference.value, 1), word(hardware), word(source)])
    return Section("Published", columns, rows)


def _measured(lines: Sequence[Measurement]) -> Iterator[Section]:
    """Newest line of each model and of each walk."""
    newest = {(line.subject, line.settings["name"], line.settings["batch_size"]): line for line in lines}
    sampled = [line for line in newest.values() if line.subject == SAMPLING]
    walked = [line for line in newest.values() if line.subject == CACHE]
    if sampled:
        columns = [Column("checkpoint", numeric=False), Column("images", numeric=False), Column("s per 1000 images")]
        columns += [Column("steps"), Column("batch"), Column("threads")]
        yield Section("Measured here: whole models", columns, [_sampling_row(line) for line in sampled])
    if walked:
        columns = [
            Column("network", numeric=False),
            Column("parameters"),
            Column("grid", numeric=False),
            Column("batch"),
        ]
        columns += [Column("cached, s"), Column("rows, s"), Column("whole grid, s"), Column("rows / cached")]
        columns += [Column("whole / cached"), Column("threads")]
        yield Section(
            "Measured here: PixelSNAIL, cached against recomputed", columns, [_walk_row(line) for line in walked]
        )


def _sampling_row(line: Measurement) -> list[Cell]:
    settings = line.settings
    return [
        word(str(settings["name"])),
        word(str(settings["size"])),
        number(line.values["seconds per 1000 images"], 1),
        number(_whole(settings.get("steps")), 0, "-"),
        number(_whole(settings["batch_size"]), 0),
        number(_whole(settings["threads"]), 0),
    ]


def _walk_row(line: Measurement) -> list[Cell]:
    settings, values = line.settings, line.values
    return [
        word(str(settings["name"])),
        number(_whole(settings["parameters"]), 0),
        word(str(settings["grid"])),
        number(_whole(settings["batch_size"]), 0),
        number(values["cached"], 2),
        number(values["rows"], 1),
        number(values["whole"], 1),
        number(values["rows"] / values["cached"], 0),
        number(values["whole"] / values["cached"], 0),
        number(_whole(settings["threads"]), 0),
    ]


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
