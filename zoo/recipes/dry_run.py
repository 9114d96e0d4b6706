"""`zoo fit --dry_run`: every stage of a configuration at tiny size, through the code that the full size runs through.

Widths, depths and numbers of steps shrink; resolutions, codebooks and the way the stages build on each other stay. Data
that are not there are replaced by a few random images of the right size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.recipes.configuration import Config
from zoo.recipes.language import Stage, changed, joined, networks_of

WIDTHS = (
    "width",
    "channels",
    "residual_channels",
    "encoder_width",
    "condition_channels",
    "fine_channels",
    "key_channels",
    "value_channels",
    "latents",
    "widths",
    "disc_width",
)
DEPTHS = ("blocks", "layers_per_block", "output_layers", "condition_layers", "residual_blocks", "fine_blocks")
NARROW, IMAGES, STEPS = 8, 8, 2
"""Channels, images of a split and steps of a fit."""


def shrunk_network(node: Any, width: int = NARROW, owner: str = "") -> Any:
    """A network's description with few and narrow layers.

    Args:
        node: class path and arguments, or a part of them.
        width: channels that are left of more.
        owner: class whose arguments these are.
    """
    if isinstance(node, (list, tuple)):
        return [shrunk_network(item, width, owner) for item in node]
    if not isinstance(node, Mapping):
        return node
    owner = str(node.get("class_path", owner)).rpartition(".")[2]
    small = {}
    for key, value in node.items():
        data_channels = owner == "HierarchicalVAE" and key == "channels"  # those of the first stage's latents
        if key in WIDTHS and not data_channels:
            small[key] = _at_most(value, width)
        elif key in (*DEPTHS, "heads", "encoder_blocks") or (key == "groups" and isinstance(value, list)):
            small[key] = _at_most(value, 1)
        elif key in ("groups", "steps") and owner == "VDM":
            small[key] = _at_most(value, 4)
        else:
            small[key] = shrunk_network(value, width, owner)
    return small


def _at_most(value: Any, most: int) -> Any:
    """Numbers cut down, at any depth."""
    if isinstance(value, Mapping):
        return {key: _at_most(item, most) for key, item in value.items()}
    if isinstance(value, list):
        return [_at_most(item, most) for item in value]
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else value


def shrunk_data(data: Mapping[str, Any], folder: Path, side: tuple[int, int, int]) -> dict[str, Any]:
    """Arguments of a data module for a few images; those of a missing data set are drawn.

    Args:
        data: the arguments, or class path and arguments.
        folder: where drawn images are kept.
        side: (C, H, W) of drawn images.
    """
    if "class_path" in data:
        return {**data, "init_args": _few(data.get("init_args", {}))}
    few = {**_few(data), "limit": IMAGES, "crops_per_image": 1}
    dataset = str(data.get("dataset", "photos"))
    if Path(dataset).is_dir():
        few["dataset"] = str(_packed(Path(dataset), folder, side[1]))
    elif not _is_there(dataset):
        few["dataset"] = str(_drawn(dataset, folder, side))
    return few


def _few(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {**arguments, "batch_size": 2, "eval_batch_size": 2, "num_workers": 0}


def _is_there(dataset: str) -> bool:
    from zoo.data.locate import locate

    try:
        locate(dataset)
    except UserError:
        return False
    return True


def _packed(source: Path, folder: Path, side: int) -> Path:
    """A folder of pictures as a prepared file."""
    from zoo.data.prepare import Preparation, prepare

    target = folder / f"{source.name}-{side}.h5"
    if not target.is_file():
        prepare(Preparation("folder", source, target, resolution=side))
    return target


def _drawn(dataset: str, folder: Path, shape: tuple[int, int, int]) -> Path:
    """A prepared file of random images."""
    import numpy as np

    from zoo.data.datasets import DATASETS
    from zoo.data.writer import PackedWriter, new_file

    channels, *size = shape
    known = DATASETS[dataset].shape if dataset in DATASETS else None
    height, width, channels = known or (*size, channels)
    target = folder / f"{Path(dataset).stem}-drawn.h5"
    if target.is_file():
        return target
    print(f"  data set {dataset!r} is not here: {IMAGES} random images of {height}x{width} take its place")
    counts = dict.fromkeys(("train", "val", "test"), IMAGES)
    generator = np.random.default_rng(0)
    with new_file(target) as path, PackedWriter(path, counts, (height, width, channels)) as writer:
        for split, count in counts.items():
            for _ in range(count):
                writer.add(split, generator.integers(0, 256, (height, width, channels), dtype=np.uint8))
        facts = {"name": dataset, "variant": f"{dataset}, drawn at random", "filter": "none", "split_rule": "drawn"}
        writer.finish({**facts, "licence": "none", "sources": "[]"})
    return target


def shrunk_trainer(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Two steps and one validation on one device."""
    kept = {key: value for key, value in trainer.items() if key not in ("max_epochs", "max_time")}
    return {
        **kept,
        "max_steps": STEPS,
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "accumulate_grad_batches": 1,
        "limit_val_batches": 1,
        "val_check_interval": 1,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }


def shrunk_model(model: Mapping[str, Any], width: int) -> dict[str, Any]:
    """A module's arguments with a small network, without pictures and compilation, which take minutes."""
    named = "class_path" in model
    inner = dict(model.get("init_args", {})) if named else dict(model)
    if "network" in inner:
        inner["network"] = shrunk_network(inner["network"], width)
    inner |= {key: value for key, value in (("grid_every", 0), ("compile", False)) if key in inner or not named}
    if named:
        inner |= {key: value for key, value in (("disc_start", 0), ("disc_width", NARROW)) if key in inner}
    return {**model, "init_args": inner} if named else inner


def shrunk_stage(
    stage: Stage, folder: Path, shape: tuple[int, int, int], width: int, options: Sequence[str] = ()
) -> Stage:
    """A stage, or a configuration without stages, at tiny size.

    Args:
        stage: it.
        folder: where drawn images and codes are kept.
        shape: (C, H, W) of its images.
        width: channels that are left of more.
        options: of the command line, which may say what the data set is.
    """
    chosen = [word for word in joined(options) if word.startswith("--data.dataset=")]
    small = dict(stage)
    if "model" in stage:
        data = stage.get("data") or {}
        data = data if "class_path" in data else changed({"data": data}, chosen)["data"]
        small["model"] = shrunk_model(stage["model"], width)
        small["trainer"] = shrunk_trainer(stage.get("trainer") or {})
        small["data"] = shrunk_data(data, folder, shape)
    elif "network" in stage:
        small["network"] = shrunk_network(stage["network"], width)
    elif "data" in stage.get("arguments", {}):
        arguments = dict(stage["arguments"])
        data = changed({"data": arguments["data"]}, chosen)["data"]
        arguments["data"] = shrunk_data(data, folder, shape)
        arguments |= {"folder": str(folder / "codes"), "epochs": min(arguments.get("epochs", 0), 1)}
        small["arguments"] = arguments
    return small


def shrunk_config(config: Config, folder: Path, options: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """A configuration at tiny size, and what its networks are at full size, one line each.

    Args:
        config: with or without stages.
        folder: where drawn images and codes are kept.
        options: of the command line.
    """
    networks = dict(networks_of(config))
    shapes = {name: _image_shape(spec) for name, spec in networks.items()}
    known = [shape for shape in shapes.values() if shape is not None]
    facts, small = [], []
    for stage in config.get("stages") or [{**config, "name": ""}]:
        name = stage["name"]
        width = NARROW
        if name in networks:
            width, full, tiny = _fitting(networks[name])
            facts.append(f"{name or 'network'}: {full:,} parameters at full size, {tiny:,} in this run")
        crop = (stage.get("data") or {}).get("crop")
        shape = shapes.get(name) or (known[0] if known else (3, crop or 64, crop or 64))
        small.append(shrunk_stage(stage, folder, shape, width, options))
    if "stages" in config:
        return {**config, "stages": small}, facts
    return {key: value for key, value in small[0].items() if key != "name"}, facts


def _image_shape(spec: Any) -> tuple[int, int, int] | None:
    """(C, H, W) that a network's description states, at any depth."""
    if not isinstance(spec, Mapping):
        return None
    if isinstance(spec.get("image_shape"), (list, tuple)):
        channels, height, width = spec["image_shape"]
        return channels, height, width
    if isinstance(spec.get("image_size"), int):
        return spec.get("image_channels", 3), spec["image_size"], spec["image_size"]
    found = [_image_shape(value) for value in spec.values()]
    return next((shape for shape in found if shape is not None), None)


def _fitting(spec: Any) -> tuple[int, int, int]:
    """The smallest width at which a network can be built, and its parameters at full size and at that one."""
    import torch

    from zoo.checkpoints.specification import build

    def size(described: Any) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(described).parameters())

    full = size(spec)
    for width in (NARROW, 16, 32, 64, 128):
        try:
            return width, full, size(shrunk_network(spec, width))
        except (UserError, ValueError, RuntimeError):  # groups or heads that such a width cannot hold
            continue
    raise UserError(f"{spec['class_path']}: no small version can be built; use --trainer.fast_dev_run 1")


@contextmanager
def told(facts: Sequence[str], folder: Path) -> Iterator[None]:
    """Say what a dry run is about to do, and what it did."""
    print(f"dry run in {folder}: {STEPS} steps a fit, {IMAGES} images a split, one device")
    for fact in facts:
        print(f"  {fact}")
    started = time.perf_counter()
    yield
    print(f"dry run: every stage ran, {time.perf_counter() - started:.0f} s; numbers of this run mean nothing")
