"""Specifications of earlier versions build the networks of today."""

import json

import pytest
from safetensors import safe_open

from zoo.checkpoints import build, load, names
from zoo.checkpoints.migrations import migrated
from zoo.checkpoints.store import SHIPPED

STAGE = {"resolution": 4, "blocks": 1}
OLD_VDVAE = {
    "encoder": [{**STAGE, "downsample": 4}, {"resolution": 1, "blocks": 1}],
    "decoder": [{"resolution": 1, "blocks": 1}, {**STAGE, "upsample_from": 1}],
    "width": 8,
    "widths": {"1": 16},
    "mixtures": 2,
    "image_size": 4,
    "image_channels": 1,
    "bits": 5,
    "input_bits": 8,
    "shift": -100.0,
    "scale": 0.5,
    "convention": "vdvae",
    "posterior_gain": 2.0,
    "posterior_reach": 3.0,
    "kl_warmup_steps": 7,
    "checkpoint_activations": True,
}
OLD_EFFICIENT = {
    "image_shape": [3, 8, 8],
    "bits": 5,
    "bottom_up": [{"width": 6, "blocks": [1], "ratio": 0.5, "stride": 2}, {"width": 8, "blocks": [1], "ratio": 0.5}],
    "top_down": [
        {"width": 8, "blocks": [1], "latents": 2, "ratio": 0.5},
        {"width": 6, "blocks": [1], "latents": 2, "ratio": 0.5, "stride": 2},
    ],
    "mixtures": 3,
    "output_scale": "logstd",
    "output_beta": 0.5,
    "min_log_scale": -7.0,
    "latent_beta": 1.0,
    "schedule": None,
    "recompute": True,
    "initial_scale": 0.2,
    "posterior_gain": 2.0,
    "posterior_reach": 3.0,
}


@pytest.mark.parametrize(("name", "old"), [("VDVAE", OLD_VDVAE), ("EfficientVDVAE", OLD_EFFICIENT)])
def test_migration_may_be_applied_twice_and_leaves_no_old_argument(name, old):
    once = migrated({"class_path": name, "init_args": old})
    assert migrated(once) == once
    assert not (once["init_args"].keys() & (old.keys() - {"image_shape", "bits", "schedule"}))
    assert old["posterior_reach"] == 3.0  # the stored arguments are left as they were


def test_old_arguments_of_vdvae_mean_what_they_meant():
    model = build({"class_path": "VDVAE", "init_args": OLD_VDVAE})
    assert (model.image_shape, model.bits, model.input_bits, model.bins) == ((1, 4, 4), 5, 8, "vdvae")
    assert (model.sees.shift, model.sees.scale, model.kl_warmup_steps) == (-100.0, 0.5, 7)
    assert [layer.max_posterior_shift for layer in model.decoder.layers] == [3.0, 3.0]
    assert [layer.width for layer in model.decoder.layers] == [16, 8]


def test_old_arguments_of_efficient_vdvae_mean_what_they_meant():
    model = build({"class_path": "EfficientVDVAE", "init_args": OLD_EFFICIENT})
    out = model.described
    assert (out.mixtures, out.scale, out.beta, out.min_log_scale) == (3, "logstd", 0.5, -7.0)
    assert {block.prior_head.beta for block in model.blocks} == {1.0}
    assert {block.max_posterior_shift for block in model.blocks} == {3.0}


@pytest.mark.parametrize("name", names())
def test_shipped_checkpoints_are_described_in_the_words_of_today(name):
    with safe_open(SHIPPED / f"{name}.safetensors", "pt") as file:
        stored = json.loads(file.metadata()["zoo"])["network"]
    assert load(name).spec == migrated(stored) == migrated(migrated(stored))
