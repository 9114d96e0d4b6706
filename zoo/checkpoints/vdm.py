"""Official VDM checkpoints (google-research/vdm, flax msgpack `ckpt-<N>.flax`) to ours.

Neither jax nor flax is needed. Width, depth, attention, Fourier features and the kind of schedule are read from the
weights; what they do not show (the constants that rescale gamma for the time embedding, dropout, image size) comes from
a JSON file with the fields of the official configuration, or from options. The exponential moving averages are taken
unless another tree is asked for, as in the official evaluation.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoints.flax import flatten, read_flax
from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError


def _conv(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1)  # HWIO -> OIHW


def _linear(kernel: np.ndarray) -> np.ndarray:
    return kernel.T  # (in, out) -> (out, in)


def _pointwise(kernel: np.ndarray) -> np.ndarray:
    return kernel.T[:, :, None, None]  # (in, out) -> (out, in, 1, 1)


def _flat(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(-1)


def _norm(source: str, target: str) -> list[Rule]:
    return [Rule(f"{source}/scale", f"{target}.weight"), Rule(f"{source}/bias", f"{target}.bias")]


def _layer(source: str, target: str, convert: Any) -> list[Rule]:
    return [Rule(f"{source}/kernel", f"{target}.weight", convert), Rule(f"{source}/bias", f"{target}.bias")]


def _block(source: str, target: str) -> list[Rule]:
    """A residual block; only those on the way up have a shortcut."""
    return [
        *_norm(f"{source}/GroupNorm_0", f"{target}.norm1"),
        *_layer(f"{source}/conv1", f"{target}.conv1", _conv),
        Rule(f"{source}/cond_proj/kernel", f"{target}.condition.weight", _linear),
        *_norm(f"{source}/GroupNorm_1", f"{target}.norm2"),
        *_layer(f"{source}/conv2", f"{target}.conv2", _conv),
        *_layer(f"{source}/nin_shortcut", f"{target}.shortcut", _pointwise),
    ]


def _attention(source: str, target: str) -> list[Rule]:
    names = {"q": "query", "k": "key", "v": "value", "proj_out": "project"}
    rules = _norm(f"{source}/GroupNorm_0", f"{target}.norm")
    for theirs, ours in names.items():
        rules += _layer(f"{source}/{theirs}", f"{target}.{ours}", _linear)
    return rules


S, N = "score_model", "network"
RULES = [
    Rule("gamma/{p:w|b}", "schedule.{p}"),
    Rule("gamma/{p:l1|l2|l3}/kernel", "schedule.{p}_kernel", _flat),
    Rule("gamma/{p:l1|l2}/bias", "schedule.{p}_bias"),
    *_layer(f"{S}/dense0", f"{N}.dense0", _linear),
    *_layer(f"{S}/dense1", f"{N}.dense1", _linear),
    *_layer(f"{S}/conv_in", f"{N}.conv_in", _conv),
    *_block(f"{S}/down.block_{{i}}", f"{N}.down.{{i}}.block"),
    *_attention(f"{S}/down.attn_{{i}}", f"{N}.down.{{i}}.attention"),
    *_block(f"{S}/mid.block_1", f"{N}.middle1.block"),
    *_attention(f"{S}/mid.attn_1", f"{N}.middle1.attention"),
    *_block(f"{S}/mid.block_2", f"{N}.middle2.block"),
    *_block(f"{S}/up.block_{{i}}", f"{N}.up.{{i}}.block"),
    *_attention(f"{S}/up.attn_{{i}}", f"{N}.up.{{i}}.attention"),
    *_norm(f"{S}/GroupNorm_0", f"{N}.norm_out"),
    *_layer(f"{S}/conv_out", f"{N}.conv_out", _conv),
]


def import_checkpoint(
    files: list[Path],
    config: Path | None = None,
    tree: Literal["ema_params", "params"] = "ema_params",
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    image_size: int = 32,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert an official checkpoint.

    Args:
        files: one `.flax` file.
        config: JSON with fields of the official configuration (`sm_n_embd`, `sm_n_layer`, `gamma_type`, `gamma_min`,
            `gamma_max`, `sm_pdrop`, `vocab_size`, `H`, `W`, ...); fields that the weights also show must agree.
        tree: which weights; the official evaluation uses the moving averages.
        gamma_min: constant of the configuration (the same in every released one), if `config` does not say.
        gamma_max: as `gamma_min`.
        image_size: height and width of the images to sample, if `config` does not say.

    Returns:
        The spec of a `zoo.models.VDM`, and its state dict.

    Raises:
        UserError: if the file or the configuration does not fit.
    """
    if len(files) != 1:
        raise UserError(f"a VDM checkpoint is one file (ckpt-<N>.flax), got {len(files)}")
    name = str(files[0])
    content = read_flax(files[0])
    weights = content.get(tree)
    if not isinstance(weights, Mapping) or not weights:
        raise UserError(f"{name}: no weights under {tree!r}; found {sorted(map(str, content))}")
    arrays = flatten(weights)
    fields = _read_config(config)
    settings = {"gamma_min": gamma_min, "gamma_max": gamma_max, "H": image_size, "W": image_size, **fields}
    arguments = _arguments(arrays, settings, name)
    spec = {"class_path": "zoo.models.VDM", "init_args": arguments}
    _compare(fields, arguments, name, config)
    state = translate({key: np.asarray(value) for key, value in arrays.items()}, RULES, name)
    return spec, {key: torch.from_numpy(np.array(value, dtype=np.float32)) for key, value in state.items()}


def _read_config(config: Path | None) -> dict[str, Any]:
    """Fields of the official configuration from a JSON file."""
    if config is None:
        return {}
    try:
        fields = json.loads(Path(config).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{config}: expected a JSON file with the official configuration ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{config}: expected a JSON object with the official configuration")
    return {**fields, **fields.get("model", {})} if isinstance(fields.get("model", {}), dict) else fields


def _arguments(arrays: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arguments of the model, read from names and shapes of the weights."""
    try:
        conv_in, conv_out = arrays[f"{S}/conv_in/kernel"].shape, arrays[f"{S}/conv_out/kernel"].shape
    except KeyError as error:
        raise UserError(f"{name}: {error.args[0]} is missing; not a (whole) VDM checkpoint") from error
    kind = "scalar" if "gamma/w" in arrays else "network" if "gamma/l3/kernel" in arrays else "fixed"
    bits = math.log2(settings.get("vocab_size", 256))
    if not bits.is_integer():
        raise UserError(f"{name}: vocab_size={settings['vocab_size']} is not a power of two")
    features = (conv_in[2] // conv_out[3] - 1) // 2
    score = {
        "width": conv_in[3],
        "blocks": sum(re.fullmatch(rf"{S}/down\.block_\d+/conv1/bias", key) is not None for key in arrays),
        "attention": any(key.startswith(f"{S}/down.attn_") for key in arrays),
        "dropout": settings.get("sm_pdrop", 0.1),
        "fourier_exponents": [6, 7][:features],
    }
    schedule = {"kind": kind, "gamma_min": settings["gamma_min"], "gamma_max": settings["gamma_max"]}
    if kind == "network":
        schedule["width"] = arrays["gamma/l3/kernel"].shape[0]
    return {
        "image_shape": [conv_out[3], settings["H"], settings["W"]],
        "bits": int(bits),
        "score": score,
        "schedule": schedule,
        "bound": {
            "low_discrepancy": settings.get("antithetic_time_sampling", True),
            "train_steps": settings.get("sm_n_timesteps", 0),
        },
        "labels": "augmented",
    }


def _compare(fields: Mapping[str, Any], arguments: Mapping[str, Any], name: str, config: Path | None) -> None:
    """Refuse a configuration that contradicts the weights."""
    kinds = {"fixed": "fixed", "scalar": "learnable_scalar", "network": "learnable_nnet"}
    score = arguments["score"]
    shown = {
        "sm_n_embd": score["width"],
        "sm_n_layer": score["blocks"],
        "with_attention": score["attention"],
        "gamma_type": kinds[arguments["schedule"]["kind"]],
        "with_fourier_features": bool(score["fourier_exponents"]),
    }
    for key, value in shown.items():
        if key in fields and fields[key] != value:
            raise UserError(f"{config}: {key}={fields[key]!r}, but the weights in {name} show {value!r}")
