"""Imports the official Efficient-VDVAE checkpoints, of the PyTorch and of the JAX code.

Accepted: the checkpoint file itself (`checkpoints-<name>`, or flax's `checkpoint_<step>`), the released archive around
it, the torch file unpacked into a folder (`archive/data.pkl`, what a second unzip makes of it), or a folder that holds
any of these. The architecture is only in the run's `hparams-<name>.cfg`; it is looked for beside the checkpoint.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoints.efficient_vdvae_config import network_arguments, read_hparams
from zoo.checkpoints.flax import flatten, read_flax
from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError
from zoo.likelihood.levels import Bins
from zoo.torchfiles import safe_torch_load, unwrapped

Weights = Literal["ema", "raw"]

_P = "{p:weight|bias}"
_CELL = f"residual_block.{{b}}.convs.{{k}}.{_P}"
_BLOCK = {
    "unpool.scale_bias": "unpool.bias",
    f"unpool.ops.0.{_P}": "unpool.conv.{p}",
    _CELL: "residual.{b}.convs.{k}.{p}",
    f"posterior_net.0.convs.{{k}}.{_P}": "posterior_net.convs.{k}.{p}",
    f"prior_net.0.convs.{{k}}.{_P}": "prior_net.convs.{k}.{p}",
    f"prior_layer.projection.{_P}": "prior_head.projection.{p}",
    f"posterior_layer.projection.{_P}": "posterior_head.projection.{p}",
    f"z_projection.{_P}": "z_projection.{p}",
}
_UP = "bottom_up.levels_up_downsample.{i}"
_TORCH = {
    f"bottom_up.input_conv.{_P}": "input.{p}",
    f"bottom_up.levels_up.{{i}}.{{j}}.{_CELL}": "bottom_up.{i}.rest.{j}.{b}.convs.{k}.{p}",
    f"{_UP}.{_CELL}": "bottom_up.{i}.last.{b}.convs.{k}.{p}",
    f"{_UP}.skip_projection.{_P}": "bottom_up.{i}.skip.{p}",
    f"{_UP}.pool.ops.0.{_P}": "bottom_up.{i}.pool.0.{p}",
    "top_down.trainable_h": "start",
    f"top_down.output_conv.{_P}": "output.{p}",
    **{f"top_down.levels_down_upsample.{{i}}.{s}": f"top_down.{{i}}.first.{t}" for s, t in _BLOCK.items()},
    **{f"top_down.levels_down.{{i}}.{{j}}.{s}": f"top_down.{{i}}.rest.{{j}}.{t}" for s, t in _BLOCK.items()},
}
TORCH_RULES = [Rule(source, target) for source, target in _TORCH.items()]
"""Names of the PyTorch code -> ours."""

# A convolution of the JAX code -> ours; both have a kernel and a bias, which `_jax_rules` adds.
_JAX_BLOCK = {
    "unpooling_layer/conv/conv": "unpool.conv",
    "residual_block_{b}/conv_{c}/conv": "residual.{b}.convs.{k}",
    "posterior_net/conv_{c}/conv": "posterior_net.convs.{k}",
    "prior_net/conv_{c}/conv": "prior_net.convs.{k}",
    "prior_gaussian_layer/projection/conv": "prior_head.projection",
    "posterior_gaussian_layer/projection/conv": "posterior_head.projection",
    "z_projection/z_projection/conv": "z_projection",
}
_JAX_UPSAMPLE, _JAX_REST = "top_down/block_down_level_{i}_upsample", "top_down/block_down_level_{i}_{j}"
_JAX = {
    "bottom_up/input_conv/conv": "input",
    "bottom_up/block_up_level_{i}_{j}/residual_block_{b}/conv_{c}/conv": "bottom_up.{i}.rest.{j}.{b}.convs.{k}",
    "bottom_up/block_up_level_{i}_downsample/residual_block_{b}/conv_{c}/conv": "bottom_up.{i}.last.{b}.convs.{k}",
    "bottom_up/block_up_level_{i}_downsample/skip_projection/conv": "bottom_up.{i}.skip",
    "bottom_up/block_up_level_{i}_downsample/pooling_layer/conv/conv": "bottom_up.{i}.pool.0",
    **{f"{_JAX_UPSAMPLE}/{s}": f"top_down.{{i}}.first.{t}" for s, t in _JAX_BLOCK.items()},
    **{f"{_JAX_REST}/{s}": f"top_down.{{i}}.rest.{{j}}.{t}" for s, t in _JAX_BLOCK.items()},
}


def import_checkpoint(
    files: Sequence[Path], config: Path | None = None, weights: Weights = "ema", bins: Bins = "normalised"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an official checkpoint.

    Args:
        files: the checkpoint in any of the forms above; further files may be the archive of the logs or the `.cfg`.
        config: the run's `hparams-<name>.cfg`; None looks beside and among the files.
        weights: the averaged weights, or those of the last step.
        bins: how the imported model prices levels; "efficient_vdvae" gives the official number.

    Returns:
        The spec of the network and its weights.

    Raises:
        UserError: a file is missing, damaged, of another kind or does not fit the configuration.
    """
    with ExitStack() as stack:
        places = [_unpacked(Path(file), stack) for file in files]
        checkpoint = _only(places, _is_checkpoint, "checkpoint", files)
        arguments = network_arguments(read_hparams(config or _configuration(places, checkpoint, files)))
        name = str(files[0])
        if _is_torch(checkpoint):
            state = _torch_weights(checkpoint, weights, name)
        else:
            state = _jax_weights(checkpoint, weights, name, channels=arguments["image_shape"][0])
    spec = {"class_path": "zoo.models.EfficientVDVAE", "init_args": {**arguments, "bins": bins}}
    return spec, _with_lazy_biases(spec, state)


# -- finding the files ------------------------------------------------------------------------------------------------


def _unpacked(path: Path, stack: ExitStack) -> Path:
    """The path itself, or a temporary folder with the contents of a released archive."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the official checkpoint")
    if not zipfile.is_zipfile(path) or _is_torch(path):
        return path
    folder = Path(stack.enter_context(TemporaryDirectory()))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)  # zipfile drops absolute paths and '..'
    return folder


def _is_torch(path: Path) -> bool:
    """Whether the path is a torch file, or a folder that a torch file was unpacked to."""
    if path.is_dir():
        return (path / "data.pkl").is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())


def _is_checkpoint(path: Path) -> bool:
    flax = path.is_file() and path.stem.startswith("checkpoint") and path.suffix not in (".cfg", ".zip")
    return flax or _is_torch(path)


def _candidates(place: Path) -> list[Path]:
    """The place and, if it is a folder, everything in it, but not what is inside an unpacked torch file."""
    if not place.is_dir() or _is_torch(place):
        return [place]
    return [inner for child in sorted(place.iterdir()) for inner in _candidates(child)]


def _only(places: Sequence[Path], wanted: Any, what: str, files: Sequence[Path]) -> Path:
    """The single candidate that fits."""
    if len(places) == 1 and places[0].is_file() and places[0].suffix != ".cfg":
        return places[0]  # a file given by itself is taken at its word, whatever it is called
    found = [path for place in places for path in _candidates(place) if wanted(path)]
    shown = ", ".join(map(str, files))
    if not found:
        raise UserError(f"{shown}: no Efficient-VDVAE {what} in here")
    if len(found) > 1:
        raise UserError(f"{shown}: {len(found)} {what}s ({found[0].name}, {found[1].name}, ...); give one of them")
    return found[0]


def _configuration(places: Sequence[Path], checkpoint: Path, files: Sequence[Path]) -> Path:
    """The `.cfg` among the given files, or else `logs-*/hparams-*.cfg` near the checkpoint, best by the run's name."""
    given = [path for place in places for path in _candidates(place) if path.suffix == ".cfg"]
    if len(given) == 1:
        return given[0]
    near = [path.resolve().parent for path in (*files, checkpoint)]
    folders = dict.fromkeys(folder for start in near for folder in (start, start.parent))
    found = dict.fromkeys(
        path
        for folder in folders
        for pattern in ("hparams-*.cfg", "logs*/hparams-*.cfg")
        for path in folder.glob(pattern)
    )
    named = [path for path in found if any(_run(path) in str(part) for part in (*files, checkpoint))]
    best = [path for path in named if len(_run(path)) == max(len(_run(p)) for p in named)] or list(found)
    if len({path.resolve() for path in best}) != 1:
        problem = "no" if not best else f"{len(best)} possible"
        raise UserError(f"{files[0]}: {problem} hparams-<name>.cfg found beside it; give it with --config")
    return best[0]


def _run(config: Path) -> str:
    return config.stem.removeprefix("hparams-")


# -- reading the weights ----------------------------------------------------------------------------------------------


def _torch_weights(path: Path, weights: Weights, name: str) -> dict[str, Tensor]:
    checkpoint = _repacked(path) if path.is_dir() else safe_torch_load(path)
    key = "ema_model_state_dict" if weights == "ema" else "model_state_dict"
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get(key), Mapping):
        raise UserError(f"{name}: lacks {key!r}; expected a checkpoint of the official PyTorch code")
    return translate(unwrapped(checkpoint[key]), TORCH_RULES, name)


def _repacked(folder: Path) -> Any:
    """Load a torch file that was unpacked to a folder, by packing it again."""
    with TemporaryDirectory() as scratch:
        whole = Path(scratch) / "checkpoint"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, f"archive/{file.relative_to(folder)}")
        try:
            return safe_torch_load(whole)
        except UserError as error:
            raise UserError(f"{folder}: damaged or incomplete unpacked torch file; import the original") from error


def _jax_weights(path: Path, weights: Weights, name: str, channels: int) -> dict[str, Tensor]:
    tree = read_flax(path)
    key = "ema_params" if weights == "ema" else "params"
    if not isinstance(tree.get(key), Mapping):
        raise UserError(f"{name}: lacks {key!r}; expected a checkpoint of the official JAX code")
    arrays = translate(flatten(tree[key]), jax_rules(channels), name)
    return {key: torch.from_numpy(np.array(array, dtype=np.float32)) for key, array in arrays.items()}


def jax_rules(channels: int) -> list[Rule]:
    """Names and layouts of the JAX code -> ours, for images with `channels` colours."""

    def output(array: np.ndarray) -> np.ndarray:
        return colours_outside(array, channels)

    rules = [
        Rule("top_down/trainable_h", "start", _channels_first),
        Rule(f"{_JAX_UPSAMPLE}/unpooling_layer/scale_bias", "top_down.{i}.first.unpool.bias", _channels_first),
        Rule("top_down/output_conv/conv/kernel", "output.weight", lambda kernel: _kernel(output(kernel))),
        Rule("top_down/output_conv/conv/bias", "output.bias", output),
    ]
    for source, target in _JAX.items():
        rules.append(Rule(f"{source}/kernel", _numbered(f"{target}.weight"), _kernel))
        rules.append(Rule(f"{source}/bias", _numbered(f"{target}.bias")))
    return rules


def _numbered(target: str) -> Any:
    """Fill a target whose {k} is the place of convolution {c} among the activations of a cell."""
    return lambda holes: target.format(**holes, k=2 * holes.get("c", 0) + 1)


def _kernel(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1)  # (H, W, in, out) -> (out, in, H, W)


def _channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2)  # (1, H, W, C) -> (1, C, H, W)


def colours_outside(array: np.ndarray, colours: int) -> np.ndarray:
    """Last axis of the output layer, M (1 + 3 C) long: colour fastest (JAX) -> colour slowest (PyTorch).

    A Bernoulli output (one channel) has nothing to permute.
    """
    if colours == 1:
        return array
    mixtures = array.shape[-1] // (1 + 3 * colours)
    logits, rest = array[..., :mixtures], array[..., mixtures:]
    groups = rest.reshape(*rest.shape[:-1], 3 * mixtures, colours)  # (..., 3M, C)
    return np.concatenate([logits, groups.swapaxes(-1, -2).reshape(rest.shape)], axis=-1)


def _with_lazy_biases(spec: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the unpooling biases that the official code creates, as zeros, on its first forward pass.

    A checkpoint of a module that never ran lacks them.
    """
    from zoo.checkpoints.specification import build

    with torch.device("meta"):
        expected = build(spec).state_dict()
    lazy = {name for name in expected if name.endswith(".unpool.bias")} - state.keys()
    return {**state, **{name: torch.zeros(expected[name].shape) for name in lazy}}


__all__ = ["TORCH_RULES", "colours_outside", "import_checkpoint", "jax_rules"]
