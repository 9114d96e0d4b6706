"""Importer of official VDM checkpoints: every published form of the key tree, and what it refuses."""

import json

import msgpack
import numpy as np
import pytest

from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.migrations import migrated
from zoo.checkpoints.vdm import import_checkpoint
from zoo.errors import UserError

N = 32


def norm(channels):
    return {"scale": (channels,), "bias": (channels,)}


def layer(*shape):
    return {"kernel": shape, "bias": (shape[-1],)}


def block(channels):
    parts = {
        "GroupNorm_0": norm(channels),
        "conv1": layer(3, 3, channels, N),
        "cond_proj": {"kernel": (4 * N, N)},
        "GroupNorm_1": norm(N),
        "conv2": layer(3, 3, N, N),
    }
    return parts if channels == N else {**parts, "nin_shortcut": layer(channels, N)}


def attention():
    return {"GroupNorm_0": norm(N), **{name: layer(N, N) for name in ("q", "k", "v", "proj_out")}}


def tree(gamma="learnable_scalar", everywhere=False, blocks=2, fourier=True):
    """Shapes of an official parameter tree (reference: the published key table)."""
    score = {
        "dense0": layer(N + 1, 4 * N),
        "dense1": layer(4 * N, 4 * N),
        "conv_in": layer(3, 3, 15 if fourier else 3, N),
        "mid.block_1": block(N),
        "mid.attn_1": attention(),
        "mid.block_2": block(N),
        "GroupNorm_0": norm(N),
        "conv_out": layer(3, 3, N, 3),
    }
    for i in range(blocks):
        score[f"down.block_{i}"] = block(N)
    for i in range(blocks + 1):
        score[f"up.block_{i}"] = block(2 * N)
    if everywhere:
        score |= {f"down.attn_{i}": attention() for i in range(blocks)}
        score |= {f"up.attn_{i}": attention() for i in range(blocks + 1)}
    schedules = {
        "fixed": {},
        "learnable_scalar": {"w": (1,), "b": (1,)},
        "learnable_nnet": {"l1": layer(1, 1), "l2": layer(1, 1024), "l3": {"kernel": (1024, 1)}},
    }
    return {"score_model": score, **({"gamma": schedules[gamma]} if gamma != "fixed" else {})}


def filled(shapes):
    """Random arrays of these shapes as msgpack extension objects, the way flax writes them."""
    if isinstance(shapes, dict):
        return {key: filled(value) for key, value in shapes.items()}
    array = np.random.default_rng(0).normal(size=shapes).astype(np.float32)
    return msgpack.ExtType(1, msgpack.packb([list(array.shape), "float32", array.tobytes()]))


def written(path, shapes, **changes):
    content = {"step": 1, "params": {}, "ema_params": filled(shapes), "opt_state": {}, **changes}
    path.write_bytes(msgpack.packb(content))
    return path


@pytest.mark.parametrize("gamma", ["fixed", "learnable_scalar", "learnable_nnet"])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("fourier", [False, True])
def test_every_published_form_fills_its_network(tmp_path, gamma, everywhere, fourier):
    shapes = tree(gamma, everywhere, fourier=fourier)
    spec, state = import_checkpoint([written(tmp_path / "ckpt-1.flax", shapes)], image_size=16)
    model = build(spec)
    fit_weights(model, state, "ckpt")
    assert spec["init_args"]["image_shape"] == [3, 16, 16]
    assert (spec["init_args"]["score"]["width"], spec["init_args"]["score"]["blocks"]) == (N, 2)
    assert spec["init_args"]["schedule"]["gamma_min"] == -13.3


@pytest.mark.parametrize(
    ("field", "value"),
    [("sm_n_embd", 64), ("sm_n_layer", 3), ("with_attention", True), ("gamma_type", "fixed")],
)
def test_configuration_that_contradicts_the_weights_is_refused(tmp_path, field, value):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({field: value}))
    with pytest.raises(UserError, match=field):
        import_checkpoint([written(tmp_path / "ckpt-1.flax", tree())], config)


def test_configuration_fills_what_weights_do_not_show(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model": {"gamma_min": -11.0, "vocab_size": 32, "sm_pdrop": 0.05}}))
    spec, _ = import_checkpoint([written(tmp_path / "ckpt-1.flax", tree())], config)
    arguments = spec["init_args"]
    assert (arguments["schedule"]["gamma_min"], arguments["score"]["dropout"], arguments["bits"]) == (-11.0, 0.05, 5)


def test_missing_tree_foreign_keys_and_several_files_are_refused_in_one_line(tmp_path):
    good = written(tmp_path / "a.flax", tree())
    foreign = tree()
    foreign["score_model"]["conv_extra"] = layer(1, 1)
    for arguments in (
        {"files": [good], "tree": "params"},
        {"files": [good, good]},
        {"files": [written(tmp_path / "b.flax", foreign)]},
        {"files": [written(tmp_path / "c.flax", {"dense": layer(1, 1)})]},
    ):
        with pytest.raises(UserError) as error:
            import_checkpoint(**arguments)
        assert "\n" not in str(error.value)


def test_arguments_from_before_they_were_grouped_are_migrated():
    old = {"width": 32, "groups": 8, "schedule": "scalar", "schedule_width": 7, "gamma_max": 4.0, "coding_steps": 9}
    spec = {"class_path": "zoo.models.VDM", "init_args": {**old, "eval_draws": 2, "checkpoint_activations": True}}
    new = {
        "score": {"width": 32, "groups": 8},
        "schedule": {"kind": "scalar", "width": 7, "gamma_max": 4.0},
        "steps": 9,
        "bound": {"eval_draws": 2},
    }
    assert migrated(spec)["init_args"] == new
    assert migrated(migrated(spec)) == migrated(spec)
