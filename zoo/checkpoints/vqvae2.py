"""Importer for VQ-VAE-2 of `rosinality/vq-vae-2-pytorch` (the common public code; there is no official one).

The first stage is a bare state dict; priors are read by `zoo.checkpoints.pixelsnail`. With priors the result is the
whole model, without them the first stage alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.checkpoints import pixelsnail
from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError

_LEVELS = ("t", "b")
"""Their letters of the levels, top first."""


def _rules() -> list[Rule]:
    bodies = {"enc_b": "encoders.0", "enc_t": "encoders.1", "dec_t": "level_decoders.0", "dec": "decoder"}
    rules = []
    for theirs, ours in bodies.items():
        rules += [
            Rule(f"{theirs}.blocks.{{i}}.{{p:weight|bias}}", f"{ours}.{{i}}.{{p}}"),
            Rule(f"{theirs}.blocks.{{i}}.conv.1.{{p:weight|bias}}", f"{ours}.{{i}}.first.{{p}}"),
            Rule(f"{theirs}.blocks.{{i}}.conv.3.{{p:weight|bias}}", f"{ours}.{{i}}.second.{{p}}"),
        ]
    for level, letter in enumerate(_LEVELS):
        quantiser = f"quantisers.{level}"
        rules += [
            Rule(f"quantize_conv_{letter}.{{p:weight|bias}}", f"to_code.{level}.{{p}}"),
            Rule(f"quantize_{letter}.embed", f"{quantiser}.codebook", _codes_first),
            Rule(f"quantize_{letter}.cluster_size", f"{quantiser}.counts"),
            Rule(f"quantize_{letter}.embed_avg", f"{quantiser}.sums", _codes_first),
        ]
    return [*rules, Rule("upsample_t.{p:weight|bias}", "upsamplers.0.0.{p}")]


def _codes_first(embedding: Tensor) -> Tensor:
    return embedding.T.contiguous()  # (D, K) -> (K, D)


def import_checkpoint(
    files: list[Path],
    config: Path | None = None,
    height: int = 256,
    width: int = 256,
    residual_skip: Literal["identity", "relu"] = "identity",
    prior_skip: Literal["identity", "elu"] = "identity",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a first stage, and optionally its two priors.

    Args:
        files: the first stage's file and, in any order, those of the top and bottom priors.
        config: JSON with `image: [batch, channels, height, width]` instead of `height` and `width`.
        height: of the images.
        width: of the images.
        residual_skip: `relu` for weights trained before January 2021 (such as `vqvae_560.pt`), when the activation of
            the residual blocks worked in place. The wrong rule shows as a clearly higher error.
        prior_skip: `elu` for priors trained before July 2020.

    Returns:
        The spec of a `QuantisedAutoencoder`, or of a `VQVAE2` if priors are given, and the weights.

    Raises:
        UserError: if a file is missing, or not what it should be.
    """
    if config is not None:
        try:
            height, width = json.loads(Path(config).read_text())["image"][-2:]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{config}: expected JSON with 'image': [batch, channels, height, width]") from error
    stages, priors = [], {}
    for file in files:
        weights, _ = pixelsnail.read_public(file)
        if "background" in weights:
            spec, state = pixelsnail.import_checkpoint([file], residual_skip=prior_skip)
            priors[spec["init_args"]["name"]] = (spec, state)
        else:
            stages.append((file, weights))
    if len(stages) != 1:
        raise UserError(f"vqvae2: expected one first-stage file among {len(files)}, found {len(stages)}")
    if priors and sorted(priors) != ["bottom", "top"]:
        raise UserError(f"vqvae2: the prior of the {next(iter(priors))} level came alone; give both or none")
    spec, state = _first_stage(*stages[0], (height, width), residual_skip)
    if not priors:
        return spec, state
    ordered = [priors["top"], priors["bottom"]]
    whole = {f"autoencoder.{key}": tensor for key, tensor in state.items()}
    for level, (_, weights) in enumerate(ordered):
        whole |= {f"priors.{level}.{key}": tensor for key, tensor in weights.items()}
    arguments = {"autoencoder": spec, "priors": [prior for prior, _ in ordered]}
    return {"class_path": "zoo.models.VQVAE2", "init_args": arguments}, whole


def _first_stage(
    file: Path, weights: Mapping[str, Tensor], size: tuple[int, int], skip: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Spec and weights of the autoencoder; hyper-parameters are read off the shapes."""
    for key in ("enc_b.blocks.0.weight", "enc_b.blocks.4.weight", "quantize_t.embed"):
        if key not in weights:
            raise UserError(f"{file}: key {key!r} is missing; expected a VQ-VAE first stage of the public code")
    residual = [key for key in weights if key.startswith("enc_b.blocks.") and key.endswith(".conv.1.weight")]
    code_dim, num_codes = weights["quantize_t.embed"].shape
    arguments: dict[str, Any] = {
        "image_shape": [weights["enc_b.blocks.0.weight"].shape[1], *map(int, size)],
        "strides": [4, 2],
        "channels": weights["enc_b.blocks.4.weight"].shape[0],
        "residual_channels": weights[residual[0]].shape[0] if residual else 1,
        "residual_blocks": len(residual),
        "num_codes": num_codes,
        "code_dim": code_dim,
        "codebook_init": "normal",
        "residual_skip": skip,
    }
    state = translate(weights, _rules(), str(file))
    # The public code keeps neither; the number of updates only matters to other initialisations.
    state["absolute_error"] = torch.full((arguments["image_shape"][0],), 0.1)
    for level in range(len(_LEVELS)):
        state[f"quantisers.{level}.updates"] = torch.ones((), dtype=torch.long)
    return {"class_path": "zoo.models.QuantisedAutoencoder", "init_args": arguments}, state
