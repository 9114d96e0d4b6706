"""Importer of the latent VAE's released weights (pipeline files with `vae.*` and, next to them, `dae.*`).

A state dict does not tell the number of attention heads, the normalisation of the latents or sigma_q, so those come
from a preset (one of the released configurations) or from a JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints import ldm_autoencoder
from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError, closest
from zoo.models.latent_vae.presets import PRESETS, Preset

PREFIX = "vae."
W = "{w:weight|bias}"
ENCODER = "encoder.encoder_levels.{i}.layer_list.{p}"
DECODER = "layer_list.{i}.layer_list.{p}"


def _block(ours: str, theirs: str) -> list[Rule]:
    """A residual block; the last kernel of prior and posterior blocks is wrapped in one more module."""
    names = {"classproj": "label", "conv1": "conv1", "conv2": "conv2", "dense1": "widen", "dense2": "narrow"}
    plain = [Rule(f"{theirs}.{their}.{W}", f"{ours}.{our}.{{w}}") for their, our in names.items()]
    wrapped = [Rule(f"{theirs}.{their}.conv.{W}", f"{ours}.{names[their]}.{{w}}") for their in ("conv2", "dense2")]
    return plain + wrapped


def _level(ours: str, theirs: str, resampler: str) -> list[Rule]:
    """Attention and change of resolution, which share one list with the blocks."""
    return [
        Rule(f"{theirs}.{{q:qkvproj|qproj}}.{W}", f"{ours}.{{i}}.{{p}}.project.{{w}}"),
        Rule(f"{theirs}.outproj.{W}", f"{ours}.{{i}}.{{p}}.output.{{w}}"),
        Rule(f"{theirs}.conv_layer.{W}", f"{resampler}.{{i}}.conv.{{w}}"),
    ]


RULES = [
    Rule("initial_x", "start"),
    Rule("embed.weight", "embed.weight"),
    Rule(f"outproj.{W}", "head.{w}"),
    Rule(f"encoder.in_proj.{W}", "encoder.stem.{w}"),
    *_block("encoder.levels.{i}.{p}", ENCODER),
    *_level("encoder.levels", ENCODER, "encoder.pools"),
    *(
        rule
        for part in ("prior_block", "posterior_block", "shared_block")
        for rule in _block(f"levels.{{i}}.{{p}}.{part}", f"{DECODER}.{part}")
    ),
    Rule(f"{DECODER}.actsproj.{W}", "levels.{i}.{p}.merge.{w}"),
    Rule(f"{DECODER}.zproj.weight", "levels.{i}.{p}.inject.weight"),
    *_level("levels", DECODER, "upsamples"),
]


def hierarchy_arguments(model: Mapping[str, Any], attention_mode: str) -> dict[str, Any]:
    """Official constructor arguments to those of `HierarchicalVAE`."""
    names = {
        "resolution": "resolution",
        "datadim": "channels",
        "c": "width",
        "c_enc": "encoder_width",
        "c_mult": "width_mult",
        "dff_mult": "ffn_mult",
        "nlayers": "groups",
        "enc_nlayers": "encoder_blocks",
        "num_attention": "attention",
        "num_attention_heads": "heads",
        "zdim": "latent_channels",
        "num_classes": "num_classes",
        "h_prior": "hierarchical_prior",
    }
    return {our: model[their] for their, our in names.items() if their in model} | {"attention_mode": attention_mode}


def _preset(config: Path | None, preset: str | None, attention_mode: str) -> Preset:
    """The configuration, from a name or a file."""
    if (config is None) == (preset is None):
        raise UserError(f"latent-vae: give either --config FILE.json or --preset, one of {', '.join(sorted(PRESETS))}")
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"latent-vae: no preset {preset!r}; {closest(preset, PRESETS)}")
        known = PRESETS[preset]
        return Preset({**known.hierarchy, "attention_mode": attention_mode}, known.shift, known.scale, known.sigma_q)
    assert config is not None
    try:
        content = json.loads(config.read_text())
        hierarchy = hierarchy_arguments(content["model"], attention_mode)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config}: expected JSON with the network's arguments under 'model' ({error})") from error
    return Preset(hierarchy, content.get("shift", 0.0), content.get("scale", 1.0), content.get("sigma_q", 0.07))


def import_checkpoint(
    files: list[Path], config: Path | None = None, preset: str | None = None, attention: str = "as_released"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert released weights.

    Args:
        files: the pipeline file with `vae.*` keys; if it holds no `dae.*` keys, a second file may give the first stage.
        config: JSON with the official constructor arguments under `model`, and `sigma_q`, `shift`, `scale`.
        preset: name of a released configuration instead, such as `church_f8`.
        attention: `as_released` runs the layers the way the weights were trained; `correct` uses the attention output.

    Returns:
        Spec and state dict of a `LatentVAE`; of a `HierarchicalVAE` alone when no first stage is given.
    """
    if not 1 <= len(files) <= 2:
        raise UserError(f"latent-vae: expected the pipeline file, and perhaps one of the first stage; got {len(files)}")
    if attention not in ("as_released", "correct"):
        raise UserError(f"latent-vae: attention={attention!r}; {closest(attention, ['as_released', 'correct'])}")
    chosen = _preset(config, preset, attention)
    weights = ldm_autoencoder.read_weights(files[0])
    own = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}
    if not own:
        raise UserError(f"{files[0]}: no key starts with {PREFIX!r}; give the pipeline file of a latent VAE")
    hierarchy = {"class_path": "zoo.models.latent_vae.HierarchicalVAE", "init_args": dict(chosen.hierarchy)}
    state = translate(own, RULES, str(files[0]))
    stage = ldm_autoencoder.read_weights(files[1]) if len(files) == 2 else weights
    if len(files) == 1 and not any(key.startswith("dae.") for key in weights):
        return hierarchy, state
    first_spec, first_state = ldm_autoencoder.import_weights(stage, str(files[-1]))
    size = chosen.hierarchy["resolution"] * 2 ** (len(first_spec["init_args"]["width_mult"]) - 1)
    arguments = {
        "hierarchy": hierarchy,
        "first_stage": first_spec,
        "image_size": size,
        "shift": chosen.shift,
        "scale": chosen.scale,
        "sigma_q": chosen.sigma_q,
    }
    merged = {f"hierarchy.{key}": value for key, value in state.items()}
    merged |= {f"first_stage.{key}": value for key, value in first_state.items()}
    merged |= {"shift": torch.tensor(chosen.shift), "scale": torch.tensor(chosen.scale)}
    return {"class_path": "zoo.models.LatentVAE", "init_args": arguments}, merged
