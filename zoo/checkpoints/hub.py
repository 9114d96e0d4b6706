"""Models by name, and checkpoints as folders in the layout of the Hugging Face Hub: weights, config and a card.

Nothing here speaks to the network: `push_to` writes a folder that any uploader can take, and a downloaded one is a
checkpoint like any other (`zoo test FOLDER`, `load(FOLDER)`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from zoo.checkpoints import store
from zoo.checkpoints.configurations import find_configuration
from zoo.checkpoints.specification import Spec, build
from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.likelihood.model import LikelihoodModel

CARD = "README.md"


def create_model(name: str, pretrained: bool | str | Path = False, **arguments: Any) -> nn.Module:
    """A network by the name of its class, of a configuration or of a checkpoint.

    Args:
        name: `vdvae_cifar10` (a configuration: its network, with fresh weights), `VDVAE` (a class, which needs its
            arguments), or with `pretrained=True` what `zoo pull` knows, ships with the package, or is a path.
        pretrained: True loads the checkpoint `name`; a path or name loads that one.
        arguments: of the network; with a configuration or checkpoint they replace its own.

    Returns:
        The network, in eval mode if it is pretrained.

    Raises:
        UserError: there is none of that name, or an argument does not fit.

    Example:
        >>> model = create_model("vdvae-photos-8bit", pretrained=True)
        >>> model.bits
        8
        >>> create_model("demo/vdvae_photos_8bit", bits=5).bits
        5
    """
    if pretrained:
        return store.load(name if pretrained is True else pretrained, **arguments).network
    import zoo.models

    if name in zoo.models.MODULES or "." in name:
        return build({"class_path": name, "init_args": arguments})
    spec = _network_of(find_configuration(name))
    return build({**spec, "init_args": {**spec.get("init_args", {}), **arguments}})


def _network_of(path: Path) -> Spec:
    """The network of a configuration; of the last stage that has one where there are stages."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = [part.get("model", part) for part in content.get("stages", [content])]
    found = [(part.get("init_args") or part).get("network") for part in parts if isinstance(part, Mapping)]
    plain = [network for network in found if isinstance(network, dict) and "spec:" not in json.dumps(network)]
    if not plain:
        raise UserError(f"{path}: its networks refer to earlier stages; train it, and load the result")
    spec: Spec = plain[-1]
    return spec


def push_to(folder: str | Path, checkpoint: str | Path, facts: Sequence[str] = (), licence: str = "mit") -> Path:
    """Write a checkpoint as a folder of its own: `model.safetensors`, `config.json` and a card.

    Args:
        folder: to write to; must not hold a checkpoint yet.
        checkpoint: path, run folder or name.
        facts: further lines of the card, such as measured numbers.
        licence: of the weights, for the card.

    Returns:
        The folder.

    Raises:
        UserError: there is a checkpoint in the folder already, or none of that name.
    """
    target, loaded = Path(folder), store.load(checkpoint)
    if (target / store.HUB).exists():
        raise UserError(f"{target / store.HUB}: exists already; choose another folder")
    target.mkdir(parents=True, exist_ok=True)
    if loaded.path.suffix == ".safetensors":
        with atomic_path(target / store.HUB) as temporary:
            shutil.copyfile(loaded.path, temporary)
    else:
        store.save(target / store.HUB, loaded.spec, loaded.network, loaded.meta)
    with atomic_path(target / "config.json") as temporary:
        header = {"format": store.FORMAT, "network": loaded.spec, "meta": loaded.meta}
        temporary.write_text(json.dumps({"library_name": "likelihood-zoo", **header}, indent=2), encoding="utf-8")
    with atomic_path(target / CARD) as temporary:
        temporary.write_text(card(loaded, facts, licence), encoding="utf-8")
    return target


def card(loaded: store.Loaded, facts: Sequence[str] = (), licence: str = "mit") -> str:
    """The model card: what the network is, what it learned from, what is known of it, how to use it."""
    network, path = loaded.network, loaded.path
    name = loaded.meta.get("run") or (path.resolve().parent.name if path.stem in ("last", "model") else path.stem)
    count = sum(parameter.numel() for parameter in network.parameters())
    lines = [f"{type(network).__name__}, {count:,} parameters"]
    if isinstance(network, LikelihoodModel):
        channels, height, width = network.image_shape
        lines.append(f"images of {height}x{width} pixels, {channels} channel(s), {network.bits} bits")
        lines.append(f"its price is {'exact' if network.kind == 'exact' else 'an upper bound'}, bins: {network.bins}")
    data = loaded.data.get("dataset")
    lines += [f"trained on `{data}`"] if data else []
    lines += [f"{loaded.meta['steps']:,} optimiser steps"] if isinstance(loaded.meta.get("steps"), int) else []
    lines += [f"weights {loaded.digest}", *facts]
    listed = "\n".join(f"- {line}" for line in lines)
    return (
        f"---\nlibrary_name: likelihood-zoo\nlicense: {licence}\npipeline_tag: unconditional-image-generation\n"
        f"tags: [likelihood, lossless-compression]\n---\n# {name}\n\n{listed}\n\n"
        "```python\nfrom zoo.checkpoints import load\n\n"
        "model = load(FOLDER).network\nmodel.terms(x).bits_per_dim()   # x: (B, C, H, W) uint8 -> (B,)\n```\n\n"
        "`zoo test FOLDER`, `zoo sample FOLDER`, `zoo compress FOLDER IMAGES` take this folder as it is.\n"
    )
