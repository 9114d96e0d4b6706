"""What was priced, exactly: the checkpoint, its architecture and data, and which published rows it may stand beside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zoo.checkpoints.specification import canonical
from zoo.checkpoints.store import Loaded

if TYPE_CHECKING:
    from zoo.data.loading import EvaluationLoader


@dataclass(frozen=True)
class Split:
    """Which images were priced, in the fields of a record.

    Attributes:
        dataset, variant, split: which images, see `zoo.benchmarks.records.Record`.
        digest: SHA-256 of the split's pixels.
        resolution: side of an image.
        images: how many there are to price.
        verified: whether the data were compared with published digests and counts.
        complete: whether these are all images of the split.
    """

    dataset: str
    variant: str
    split: str
    digest: str
    resolution: int
    images: int
    verified: bool
    complete: bool


def describe_split(loader: EvaluationLoader) -> Split:
    """Dataset, variant, split, digest and number of images of a loader."""
    from zoo.data.locate import BUNDLED
    from zoo.data.packed import describe

    images = loader.reader.images
    info = describe(images.path)
    variant, limited = re.subn(r"-first\d+", "", info.variant)  # of data prepared with --limit
    bundled = Path(info.path).resolve() == BUNDLED.resolve()
    return Split(
        dataset=info.name,
        variant=f"{variant}-binarised" if loader.plan.binarise_seed is not None else variant,
        split=images.split_name,
        digest=images.info.sha256,
        resolution=loader.plan.window.size[0],
        images=loader.plan.num_samples,
        verified=bundled or bool(info.attributes.get("verified")),
        complete=not limited and len(images) == images.info.shape[0],
    )


def architecture(spec: Mapping[str, Any]) -> str:
    """Digest of what a specification says, whatever its arguments are called; a record tells the bins by themselves."""
    arguments = {name: value for name, value in (spec.get("init_args") or {}).items() if name != "bins"}
    said = canonical({**spec, "init_args": arguments})
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


def experiment(path: Path, meta: Mapping[str, Any]) -> str:
    """What records call a checkpoint: the name of its run; a file with a name of its own, such as one that ships, that.

    Example:
        >>> experiment(Path("runs/mine/checkpoints/epoch=0-step=4.ckpt"), {})
        'mine'
        >>> experiment(Path("vdvae-photos-8bit.safetensors"), {"run": "vdvae_photos_8bit"})
        'vdvae-photos-8bit'
    """
    if not re.fullmatch(r"(last|best)(-v\d+)?|(epoch|step).*", path.stem):
        return path.stem
    folder = path.absolute().parent
    while folder.name == "checkpoints" or re.fullmatch(r"version_\d+", folder.name):
        folder = folder.parent
    return str(meta.get("run") or folder.name)


def notes(path: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint knows of its run; where it has no notes (`last.ckpt`), its run's configuration speaks."""
    beside = path.with_name("config.yaml")
    if "data" in meta or not beside.is_file():
        return dict(meta)
    config = yaml.safe_load(beside.read_text(encoding="utf-8")) or {}
    data = config.get("data") or {}
    data = data.get("init_args", data)
    augmented = bool(data.get("rotate") or data.get("swap_channels"))
    return {"data": data, "augmented": augmented, "reproduces": config.get("reproduces") or [], **meta}


def describe(loaded: Loaded) -> dict[str, Any]:
    """What a record says of a checkpoint in memory, see `described`."""
    return described(loaded.path, loaded.meta, loaded.stored or loaded.spec, loaded.spec)


def described(
    path: Path, meta: Mapping[str, Any], stored: Mapping[str, Any], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """What a record says of a checkpoint.

    Args:
        path: the file.
        meta: its notes.
        stored: the specification in it.
        spec: of the network that is priced.
    """
    known = notes(path, meta)
    return {
        "config": experiment(path, known),
        "checkpoint": path.name,
        "spec": dict(spec),
        "overrides": changed(stored, spec),
        "augmented": bool(known.get("augmented")),
        "reproduces": tuple(known.get("reproduces") or ()),
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by dotted name whose value in `after` is another than in `before`."""
    if architecture(before) == architecture(after):
        return {}
    old, new = (dict(_leaves(spec.get("init_args") or {})) for spec in (before, after))
    found = {name: value for name, value in new.items() if name in old and old[name] != value}
    return found or {name: value for name, value in new.items() if name not in old}


def _leaves(node: Any, name: str = "") -> list[tuple[str, Any]]:
    """Values below the keys of nested mappings; a list is one value."""
    if not isinstance(node, Mapping):
        return [(name, node)]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{name}.{key}" if name else str(key))]
