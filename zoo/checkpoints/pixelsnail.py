"""Importer for PixelSNAIL priors of `rosinality/vq-vae-2-pytorch` (the common public code; there is no official one).

A file is a state dict, or `{"model": state dict, "args": argparse.Namespace}`. The namespace is read as plain data:
no other class is allowed in the file, and nothing in it runs. All shapes are read from the tensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError
from zoo.torchfiles import safe_torch_load, unwrapped

HEADS = 8
"""Attention heads; fixed in the public code and not visible in the weights."""

_PARTS = {"bias": "bias", "weight_v": "direction", "weight_g": "gain"}
_MODERN = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def _rules() -> list[Rule]:
    """The key table; every convolution has a bias, a direction and a gain."""
    convolutions = {
        "{side:horizontal|vertical}.conv.conv": "trunk.inputs.{side}",
        "blocks.{n}.resblocks.{m}.conv1.conv.conv": "trunk.blocks.{n}.gated.{m}.first",
        "blocks.{n}.resblocks.{m}.conv2.conv.conv": "trunk.blocks.{n}.gated.{m}.second",
        "blocks.{n}.resblocks.{m}.condition.conv": "trunk.blocks.{n}.gated.{m}.condition",
        "blocks.{n}.{role:key|query|out}_resblock.conv1.conv": "trunk.blocks.{n}.attention.{role}_block.first",
        "blocks.{n}.{role:key|query|out}_resblock.conv2.conv": "trunk.blocks.{n}.attention.{role}_block.second",
        "blocks.{n}.out_resblock.aux_conv.conv": "trunk.blocks.{n}.attention.out_block.aux",
        "blocks.{n}.causal_attention.{role:key|query|value}": "trunk.blocks.{n}.attention.{role}",
        "blocks.{n}.out.conv": "trunk.blocks.{n}.out",
        "cond_resnet.blocks.0.conv": "conditioning.first",
        "out.{i}.conv1.conv": "trunk.output_stack.{i}.first",
        "out.{i}.conv2.conv": "trunk.output_stack.{i}.second",
        "out.{i}.conv": "trunk.final",
    }
    rules = [Rule("background", None)]
    for source, target in convolutions.items():
        rules += [Rule(f"{source}.{part}", f"{target}.{ours}", _CONVERT[part]) for part, ours in _PARTS.items()]
    for theirs, ours in (("conv1", "first"), ("conv2", "second")):
        for part, name in _PARTS.items():
            rules.append(
                Rule(
                    f"cond_resnet.blocks.{{i}}.{theirs}.conv.{part}",
                    _conditioning(ours, name),
                    _CONVERT[part],
                )
            )
    return rules


def _conditioning(part: str, name: str) -> Callable[[Mapping[str, int]], str]:
    """Our name of a weight of the conditioning stack, whose blocks are numbered from 1 in the public code."""
    return lambda holes: f"conditioning.blocks.{holes['i'] - 1}.{part}.{name}"


def _as_kernel(weight: Tensor) -> Tensor:
    return weight if weight.ndim == 4 else weight[:, :, None, None]


_CONVERT: dict[str, Any] = {"bias": None, "weight_v": _as_kernel, "weight_g": lambda gain: gain.flatten()}


def read_public(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict (old names of the weight norm, no `module.` prefix) and arguments of a file.

    Raises:
        UserError: if the file is damaged, or holds anything but tensors, plain types and one argument namespace.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = safe_torch_load(path)
    args: dict[str, Any] = {}
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        args = dict(vars(content["args"])) if isinstance(content.get("args"), argparse.Namespace) else {}
    content = unwrapped(content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: expected a state dict or a dict with 'model' and 'args'; is it the right file?")
    weights = {}
    for key, tensor in content.items():
        for modern, old in _MODERN.items():
            key = key.replace(modern, old)
        weights[key] = tensor
    return weights, args


def _count(weights: Iterable[str], prefix: str, position: int) -> int:
    """One more than the largest number at that position of the dotted keys that start so; 0 if there is none."""
    found = [int(key.split(".")[position]) for key in weights if key.startswith(prefix)]
    return 1 + max(found) if found else 0


def import_checkpoint(
    files: list[Path],
    config: Path | None = None,
    residual_skip: Literal["identity", "elu"] = "identity",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read one prior.

    Args:
        files: one file.
        config: not needed.
        residual_skip: `elu` for weights trained before July 2020, when the activation worked in place.

    Returns:
        The spec of a `CodePrior` and its weights.

    Raises:
        UserError: if the file is not such a checkpoint.
    """
    if len(files) != 1:
        raise UserError(f"pixelsnail: expected one file, got {len(files)}")
    weights, args = read_public(files[0])
    needed = ("background", "horizontal.conv.conv.weight_v", "blocks.0.resblocks.0.conv1.conv.conv.weight_v")
    for key in needed:
        if key not in weights:
            raise UserError(f"{files[0]}: key {key!r} is missing; expected a PixelSNAIL prior of the public code")
    arguments = _arguments(weights, float(args.get("dropout", 0.1)), residual_skip)
    return {"class_path": "zoo.models.CodePrior", "init_args": arguments}, translate(weights, _rules(), str(files[0]))


def _arguments(weights: Mapping[str, Tensor], dropout: float, residual_skip: str) -> dict[str, Any]:
    """Arguments of the `CodePrior` that has these weights, read off their names and shapes."""
    height, width = weights["background"].shape[2:]
    channels, num_codes = weights["horizontal.conv.conv.weight_v"].shape[:2]
    conv = weights["blocks.0.resblocks.0.conv1.conv.conv.weight_v"]
    stack = [key for key in weights if key.startswith("out.") and ".conv1." in key]
    trunk = {
        "channels": channels,
        "residual_channels": conv.shape[0],
        "blocks": _count(weights, "blocks.", 1),
        "layers_per_block": _count(weights, "blocks.0.resblocks.", 3),
        "kernel_size": conv.shape[-1],
        "variant": "public-inplace" if residual_skip == "elu" else "public",
        "attention": "every" if any(".causal_attention." in key for key in weights) else "none",
        "heads": HEADS,
        "output_layers": _count(stack, "out.", 1),
        "dropout": dropout,
        "stack_dropout": 0.1,
    }
    first = weights.get("cond_resnet.blocks.0.conv.weight_v")
    if first is None:
        return {"grids": [[height, width]], "codes": [num_codes], "trunk": trunk, "name": "top"}
    return {
        "grids": [[height // 2, width // 2], [height, width]],  # the public code always doubles
        "codes": [first.shape[1], num_codes],
        "trunk": trunk,
        "condition_layers": _count(weights, "cond_resnet.blocks.", 2) - 1,
        "condition_channels": first.shape[0],
        "condition_kernel": first.shape[-1],
        "name": "bottom",
    }
