"""A tiny model of every class of the zoo, for tests that hold for all of them."""

from __future__ import annotations

import torch
from torch import nn

from zoo.checkpoints import build
from zoo.likelihood import LikelihoodModel

SNAIL = {"channels": 8, "residual_channels": 4, "blocks": 1, "layers_per_block": 1, "heads": 1}
GROUPS = {"width_mult": [1, 1], "ffn_mult": [1, 1], "groups": [1, 1], "encoder_blocks": [1, 1]}
HIERARCHY = {"resolution": 4, "channels": 1, "width": 4, "latent_channels": 2, **GROUPS}
HIERARCHY |= {"attention": [0, 0], "heads": [0, 0]}
AUTOENCODER = {"strides": [2], "channels": 4, "residual_channels": 2, "num_codes": 3, "code_dim": 2}
ENCODER = [{"resolution": 2, "blocks": 1, "downsample": 2}, {"resolution": 1, "blocks": 1}]
DECODER = [{"resolution": 1, "blocks": 1}, {"resolution": 2, "blocks": 1, "upsample_from": 1}]
VDVAE = {"encoder": ENCODER, "decoder": DECODER, "width": 8, "latent_channels": 2, "mixtures": 2}
EFFICIENT = {
    "bottom_up": [{"width": 4, "blocks": [1], "ratio": 0.5, "stride": 2}, {"width": 4, "blocks": [1], "ratio": 0.5}],
    "top_down": [
        {"width": 4, "blocks": [1], "latents": 2, "ratio": 0.5},
        {"width": 4, "blocks": [1], "latents": 2, "ratio": 0.5, "stride": 2},
    ],
}


def _vqvae2(side: int) -> dict:
    stage = {
        "class_path": "QuantisedAutoencoder",
        "init_args": {"image_shape": [1, side, side], "bits": 1, **AUTOENCODER},
    }
    prior = {"grids": [[side // 2, side // 2]], "codes": [3], "trunk": SNAIL}
    return {"autoencoder": stage, "priors": [{"class_path": "CodePrior", "init_args": prior}]}


def _latent(**options: object) -> dict:
    space = {"class_path": "zoo.models.latent_vae.PixelSpace", "init_args": {"image_channels": 1}}
    hierarchy = {"class_path": "zoo.models.latent_vae.HierarchicalVAE", "init_args": HIERARCHY}
    head = {"latent_channels": 1, "width": 4, "blocks": 1, "mixtures": 2, "image_channels": 1}
    return {
        "first_stage": space,
        "hierarchy": hierarchy,
        "image_size": 4,
        "pixel_head": {"class_path": "zoo.models.latent_vae.PixelHead", "init_args": head},
        "bits": 1,
        "sigma_q": 0.3,
        **options,
    }


SPECS: dict[str, tuple[str, dict]] = {
    "VDVAE": ("VDVAE", {"architecture": VDVAE, "image_shape": [1, 2, 2], "bits": 2}),
    "VDVAE in colour": ("VDVAE", {"architecture": VDVAE, "image_shape": [3, 2, 2], "bits": 8}),
    "EfficientVDVAE": (
        "EfficientVDVAE",
        {"image_shape": [1, 2, 2], "bits": 2, "architecture": EFFICIENT, "output": {"mixtures": 2}},
    ),
    "EfficientVDVAE of digits": (
        "EfficientVDVAE",
        {
            "image_shape": [1, 2, 2],
            "bits": 1,
            "architecture": {**EFFICIENT, "pad": 1},
            "output": {"mixtures": 0},
        },
    ),
    "LatentVAE": ("LatentVAE", _latent()),
    "LatentVAE of codes": ("LatentVAE", _latent(price="codes")),
    "PixelSNAIL": ("PixelSNAIL", {"image_shape": [1, 2, 2], "bits": 2, "trunk": SNAIL, "mixtures": 2}),
    "PixelSNAIL in colour": ("PixelSNAIL", {"image_shape": [3, 1, 2], "bits": 2, "trunk": SNAIL, "mixtures": 2}),
    "CodePrior": ("CodePrior", {"grids": [[1, 2], [2, 2]], "codes": [3, 4], "trunk": SNAIL, "condition_layers": 1}),
    "QuantisedAutoencoder": ("QuantisedAutoencoder", {"image_shape": [1, 2, 2], "bits": 1, **AUTOENCODER}),
    "VQVAE2": ("VQVAE2", _vqvae2(2)),
    "VDM": (
        "VDM",
        {
            "image_shape": [1, 2, 2],
            "bits": 2,
            "score": {"width": 8, "blocks": 1, "groups": 2, "dropout": 0.1},
            "bound": {"eval_draws": 2},
            "steps": 3,
        },
    ),
}
"""Name -> class and arguments."""


def tiny(name: str, seed: int = 0) -> LikelihoodModel:
    """The model of a name; its weights are disturbed, so that nothing is zero by initialisation."""
    torch.manual_seed(seed)
    path, arguments = SPECS[name]
    model = build({"class_path": path, "init_args": arguments})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert isinstance(model, nn.Module)
    return model.eval()
