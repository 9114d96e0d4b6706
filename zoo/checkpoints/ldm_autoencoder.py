"""Importer of the first stages of latent diffusion (`model.ckpt` of CompVis/latent-diffusion, KL and VQ).

The architecture is read off the shapes, so no configuration is needed. Attention is placed by level, not by size: the
networks work on any image whose sides are multiples of f, as the official ones do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError
from zoo.torchfiles import safe_torch_load, unwrapped

# Files of whole diffusion models and of latent-VAE pipelines hold the first stage under a prefix.
PREFIXES = ("first_stage_model.", "dae.")
DROPPED = "loss."  # discriminator and perceptual network of the training
CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
W = "{w:weight|bias}"


def _block(ours: str, theirs: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.{{p:norm1|conv1|norm2|conv2}}.{W}", f"{ours}.{{p}}.{{w}}"),
        Rule(f"{theirs}.nin_shortcut.{W}", f"{ours}.shortcut.{{w}}"),
    ]


def _attention(ours: str, theirs: str) -> list[Rule]:
    names = {"norm": "norm", "q": "query", "k": "key", "v": "value", "proj_out": "output"}
    return [Rule(f"{theirs}.{their}.{W}", f"{ours}.{our}.{{w}}") for their, our in names.items()]


def _half(half: str, side: str, resample: str) -> list[Rule]:
    """Rules of the encoder (side "down") or the decoder (side "up")."""
    level = f"{half}.levels.{{i}}"
    return [
        Rule(f"{half}.{{p:conv_in|norm_out|conv_out}}.{W}", f"{half}.{{p}}.{{w}}"),
        *_block(f"{level}.blocks.{{j}}", f"{half}.{side}.{{i}}.block.{{j}}"),
        *_attention(f"{level}.attentions.{{j}}", f"{half}.{side}.{{i}}.attn.{{j}}"),
        Rule(f"{half}.{side}.{{i}}.{resample}.conv.{W}", f"{level}.resample.conv.{{w}}"),
        *_block(f"{half}.middle.block1", f"{half}.mid.block_1"),
        *_block(f"{half}.middle.block2", f"{half}.mid.block_2"),
        *_attention(f"{half}.middle.attention", f"{half}.mid.attn_1"),
    ]


RULES = [
    *_half("encoder", "down", "downsample"),
    *_half("decoder", "up", "upsample"),
    Rule(f"quant_conv.{W}", "to_embedding.{w}"),
    Rule(f"post_quant_conv.{W}", "from_embedding.{w}"),
    Rule("quantize.embedding.weight", "codebook.weight"),
]


class _Callback:
    """Stands for Lightning's callback class, which the released files use as a dictionary key."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint file, without running code from it: a `state_dict` entry, or a bare state dict.

    Raises:
        UserError: if the file is no such checkpoint.
    """
    with torch.serialization.safe_globals([(_Callback, CALLBACK)]):
        contents = safe_torch_load(path)
    weights = unwrapped(contents)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(f"{path}: no state dict inside; give the model.ckpt of an autoencoder")
    return dict(weights)


def first_stage_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's own keys without prefix; those of losses and of other parts of a pipeline are left out."""
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): v for key, v in weights.items() if key.startswith(prefix)}
    return {key: v for key, v in weights.items() if not key.startswith(DROPPED)}


def infer_spec(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Class and arguments of the autoencoder that official weights belong to.

    Args:
        weights: official names, without prefix.
        source: file name, for errors.
    """
    needed = {"encoder.conv_in.weight", "decoder.conv_in.weight", "post_quant_conv.weight"}
    if missing := needed - weights.keys():
        raise UserError(f"{source}: no {min(missing)!r} inside; is it the checkpoint of an autoencoder?")
    entries = [re.match(r"encoder\.down\.(\d+)\.(block|attn)\.(\d+)\.", key) for key in weights]
    found = [(int(m[1]), m[2], int(m[3])) for m in entries if m]
    levels = 1 + max(level for level, _, _ in found)
    width, image_channels = weights["encoder.conv_in.weight"].shape[:2]
    vq = "quantize.embedding.weight" in weights
    arguments: dict[str, Any] = {"num_codes": len(weights["quantize.embedding.weight"])} if vq else {}
    arguments |= {
        "width": width,
        "width_mult": [len(weights[f"encoder.down.{i}.block.0.conv1.weight"]) // width for i in range(levels)],
        "blocks": 1 + max(block for _, kind, block in found if kind == "block"),
        "attention_levels": sorted({level for level, kind, _ in found if kind == "attn"}),
        "z_channels": weights["decoder.conv_in.weight"].shape[1],
        "embed_channels": weights["post_quant_conv.weight"].shape[1],
        "image_channels": image_channels,
        "middle_attention": "encoder.mid.attn_1.q.weight" in weights,
    }
    return {"class_path": f"zoo.models.{'VQAutoencoder' if vq else 'KLAutoencoder'}", "init_args": arguments}


def import_weights(weights: Mapping[str, Tensor], source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Official weights (any prefix) to spec and our state dict."""
    weights = first_stage_weights(weights)
    return infer_spec(weights, source), translate(weights, RULES, source)


def import_checkpoint(files: list[Path], config: Path | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert a released first stage.

    Args:
        files: one checkpoint: stand-alone `model.ckpt`, a whole latent diffusion model, or a latent-VAE pipeline.
        config: not needed, the shapes tell everything.

    Returns:
        Spec and state dict of a `KLAutoencoder` or `VQAutoencoder`.
    """
    if len(files) != 1:
        raise UserError(f"ldm-autoencoder: expected one checkpoint file, got {len(files)}")
    return import_weights(read_weights(files[0]), str(files[0]))
