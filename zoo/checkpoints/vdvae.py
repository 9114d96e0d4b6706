"""Importer for the checkpoints of the official VDVAE code (Child 2020, `openai/vdvae`).

The files are bare state dicts: `<run>-model.th` (raw weights, keys begin with `module.`) and `<run>-model-ema.th`. They
hold no configuration. Which block works at which resolution cannot be read from the keys, so the architecture comes
from a configuration file, or from the published one whose parameters have just these names and shapes; file names are
not trusted (a file published as ffhq1024 is known to hold another network).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.checkpoints.keymap import Rule, translate
from zoo.checkpoints.specification import build
from zoo.errors import UserError, closest
from zoo.torchfiles import safe_torch_load, unwrapped

_COMMON = {"bottleneck_multiple": 0.25, "zdim": 16, "no_bias_above": 64, "image_channels": 3}
PUBLISHED: dict[str, dict[str, Any]] = {
    "cifar10": {
        **_COMMON, "dataset": "cifar10", "image_size": 32, "width": 384, "custom_width_str": "", "num_mixtures": 10,
        "enc_blocks": "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
        "dec_blocks": "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
    },
    "imagenet32": {
        **_COMMON, "dataset": "imagenet32", "image_size": 32, "width": 512, "custom_width_str": "", "num_mixtures": 10,
        "enc_blocks": "32x15,32d2,16x9,16d2,8x8,8d2,4x6,4d4,1x6",
        "dec_blocks": "1x2,4m1,4x4,8m4,8x9,16m8,16x19,32m16,32x40",
    },
    "imagenet64": {
        **_COMMON, "dataset": "imagenet64", "image_size": 64, "width": 512, "custom_width_str": "", "num_mixtures": 10,
        "enc_blocks": "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",
        "dec_blocks": "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
    },
    "ffhq256": {
        **_COMMON, "dataset": "ffhq_256", "image_size": 256, "width": 512, "custom_width_str": "", "num_mixtures": 10,
        "enc_blocks": "256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        "dec_blocks": "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128",
    },
    "ffhq1024": {
        **_COMMON, "dataset": "ffhq_1024", "image_size": 1024, "width": 16, "num_mixtures": 2,
        "custom_width_str": "512:32,256:64,128:512,64:512,32:512,16:512,8:512,4:512,1:512",
        "enc_blocks": "1024x1,1024d2,512x3,512d2,256x5,256d2,128x7,128d2,64x10,64d2,32x14,32d2,16x7,16d2,8x5,8d2,4x5,"
        "4d4,1x4",
        "dec_blocks": "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x20,64m32,64x14,128m64,128x7,256m128,256x2,512m256,"
        "1024m512",
    },
}  # fmt: skip
"""Architectures of the published models in the official words, by the name of the official hyper-parameter set."""

PREPROCESSING: dict[str, tuple[float, float, int]] = {
    "cifar10": (-120.63838, 1 / 64.16736, 8),
    "imagenet32": (-116.2373, 1 / 69.37404, 8),
    "imagenet64": (-115.92961967, 1 / 69.37404, 8),
    "ffhq_256": (-112.8666757481, 1 / 69.84780273, 5),
    "ffhq_1024": (-0.4387 * 255, 1 / (0.2743 * 255), 8),  # officially on pixels in [0, 1]
}
"""Official data set id -> shift and scale of the encoder's input on 8-bit pixels, and the bits that are priced."""


def import_checkpoint(
    files: list[Path],
    config: Path | None = None,
    weights: Literal["ema", "raw"] = "ema",
    published: str | None = None,
    bins: Literal["normalised", "vdvae"] = "normalised",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an official VDVAE checkpoint.

    Args:
        files: `*-model.th`, `*-model-ema.th` or both; the optimiser state and the log of the same run are passed over.
        config: JSON file with the official hyper-parameters (`enc_blocks`, `dec_blocks`, `width`, ...). None looks for
            the published architecture that has these parameters.
        weights: which weights to take when both kinds are given.
        published: name of a published architecture, instead of `config`.
        bins: "normalised" gives a model whose levels sum to one and whose encoder sees what is priced, so that it
            can be coded. "vdvae" gives the official numbers: the official likelihood formula, and 8-bit input to the
            encoder of a 5-bit model.

    Returns:
        The spec of the network, and its state dict.

    Raises:
        UserError: a file is missing or is no such checkpoint, or the architecture is unknown or does not fit.
    """
    file = _choose(files, weights)
    official = _state_dict(file)
    hparams = _hparams(official, file, config, published)
    arguments = network_arguments(hparams)
    if bins == "normalised":
        arguments["bins"] = "normalised"
        arguments["sees"]["bits"] = arguments["bits"]
    spec = {"class_path": "zoo.models.VDVAE", "init_args": arguments}
    return spec, translate(official, rules(hparams), str(file))


def _choose(files: list[Path], weights: str) -> Path:
    """The one file to read."""
    kept = [Path(f) for f in files if not str(f).endswith(("-opt.th", "-log.jsonl"))]
    if len(kept) > 1:
        is_ema = {file: "-ema" in file.stem for file in kept}
        kept = [file for file in kept if is_ema[file] == (weights == "ema")]
    if len(kept) != 1:
        names = ", ".join(str(file) for file in files) or "nothing"
        raise UserError(f"{names}: expected one *-model.th, one *-model-ema.th, or both of one run")
    return kept[0]


def _state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, without the prefixes of wrappers."""
    content = unwrapped(safe_torch_load(file))
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file}: not a state dict of tensors; give the *-model.th or *-model-ema.th of a run")
    return dict(content)


def _hparams(
    official: Mapping[str, Tensor], file: Path, config: Path | None, published: str | None
) -> Mapping[str, Any]:
    """The official hyper-parameters of a checkpoint."""
    if config is not None:
        return _read_config(config)
    if published is not None:
        if published not in PUBLISHED:
            raise UserError(f"--published {published}: {closest(published, PUBLISHED)}")
        return PUBLISHED[published]
    for hparams in PUBLISHED.values():
        if _fits(official, hparams):
            return dict(hparams)
    raise UserError(
        f"{file}: {describe(official)} is none of the published architectures ({', '.join(PUBLISHED)}); "
        "give the official hyper-parameters as JSON with --config"
    )


def _fits(official: Mapping[str, Tensor], hparams: Mapping[str, Any]) -> bool:
    """Whether a network of these hyper-parameters has just these parameters."""
    stages = [*encoder_stages(hparams["enc_blocks"]), *decoder_stages(hparams["dec_blocks"])]
    found = sum(bool(re.fullmatch(r"encoder\.enc_blocks\.\d+\.c1\.bias|.*\.prior\.c1\.bias", key)) for key in official)
    if found != sum(stage["blocks"] or 0 for stage in stages):
        return False  # building a network only to see that it is of another depth takes seconds
    with torch.device("meta"):
        own = build({"class_path": "zoo.models.VDVAE", "init_args": network_arguments(hparams)}).state_dict()
    if len(own) != len(official):
        return False
    try:
        renamed = translate(official, rules(hparams), "")
    except UserError:
        return False
    return {key: w.shape for key, w in renamed.items()} == {key: w.shape for key, w in own.items()}


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        hparams = json.loads(Path(path).read_text())
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    needed = {"enc_blocks", "dec_blocks", "width", "zdim", "num_mixtures", "image_size", "dataset"}
    missing = sorted(needed - set(hparams)) if isinstance(hparams, dict) else sorted(needed)
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; expected the official hyper-parameters of one model")
    return dict(hparams)


def describe(official: Mapping[str, Tensor]) -> str:
    """What the keys alone say about a network, for messages."""
    counts = []
    for stem, word in (("encoder.enc_blocks", "encoder"), ("decoder.dec_blocks", "decoder")):
        numbers = [int(found[1]) for key in official if (found := re.match(re.escape(stem) + r"\.(\d+)\.", key))]
        counts.append(f"{max(numbers, default=-1) + 1} {word} blocks")
    gain = official.get("decoder.gain")
    return ", ".join(counts) + (f", width {gain.shape[1]}" if gain is not None and gain.ndim == 4 else "")


# ----------------------------------------------------------------------------------------------------------------------
# Official words to ours


def network_arguments(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `zoo.models.VDVAE` for official hyper-parameters."""
    dataset = hparams["dataset"]
    if dataset not in PREPROCESSING:
        raise UserError(f"dataset {dataset!r} is unknown to the official code: {closest(dataset, PREPROCESSING)}")
    shift, scale, bits = PREPROCESSING[dataset]
    return {
        "architecture": {
            "encoder": encoder_stages(hparams["enc_blocks"]),
            "decoder": decoder_stages(hparams["dec_blocks"]),
            "width": hparams["width"],
            "widths": widths(hparams.get("custom_width_str") or ""),
            "latent_channels": hparams["zdim"],
            "bottleneck": hparams.get("bottleneck_multiple", 0.25),
            "bias_up_to": hparams.get("no_bias_above", 64),
            "mixtures": hparams["num_mixtures"],
        },
        "image_shape": [hparams.get("image_channels", 3), hparams["image_size"], hparams["image_size"]],
        "bits": bits,
        "bins": "vdvae",
        "sees": {"bits": 8, "shift": shift, "scale": scale},
    }


def encoder_stages(layout: str) -> list[dict[str, int]]:
    """Stages of an official `enc_blocks` string.

    `RxN` is N blocks at resolution R, `RdK` one block followed by average pooling by K.

    Example:
        >>> encoder_stages("4x1,4d4,1x2")
        [{'resolution': 4, 'blocks': 2, 'downsample': 4}, {'resolution': 1, 'blocks': 2, 'downsample': 1}]
    """
    stages: list[dict[str, int]] = []
    for resolution, sign, number in _tokens(layout, "xd"):
        blocks, factor = (number, 1) if sign == "x" else (1, number)
        if stages and stages[-1]["resolution"] == resolution and stages[-1]["downsample"] == 1:
            stages[-1]["blocks"] += blocks
            stages[-1]["downsample"] = factor
        else:
            stages.append({"resolution": resolution, "blocks": blocks, "downsample": factor})
    return stages


def decoder_stages(layout: str) -> list[dict[str, Any]]:
    """Stages of an official `dec_blocks` string.

    `RxN` is N layers at resolution R, `RmQ` one layer that first adds the upsampled stream of resolution Q.

    Example:
        >>> decoder_stages("1x1,4m1,4x2")[1]
        {'resolution': 4, 'blocks': 3, 'upsample_from': 1}
    """
    stages: list[dict[str, Any]] = []
    for resolution, sign, number in _tokens(layout, "xm"):
        blocks, source = (number, None) if sign == "x" else (1, number)
        if source is None and stages and stages[-1]["resolution"] == resolution:
            stages[-1]["blocks"] += blocks
        else:
            stages.append({"resolution": resolution, "blocks": blocks, "upsample_from": source})
    return stages


def _tokens(layout: str, signs: str) -> Iterator[tuple[int, str, int]]:
    for token in layout.split(","):
        found = re.fullmatch(rf"(\d+)(?:([{signs}])(\d+))?", token.strip())
        if found is None:
            raise UserError(f"layout {layout!r}: cannot read {token!r}; expected tokens like 32x11 or 32{signs[1]}2")
        yield int(found[1]), found[2] or "x", int(found[3] or 1)


def widths(custom: str) -> dict[int, int]:
    """Resolution -> channels of an official `custom_width_str`, such as "8:16,4:24"."""
    try:
        pairs = [token.split(":") for token in custom.split(",") if token.strip()]
        return {int(resolution): int(width) for resolution, width in pairs}
    except ValueError as error:
        raise UserError(f"custom_width_str {custom!r}: expected resolution:width,resolution:width") from error


def rules(hparams: Mapping[str, Any]) -> list[Rule]:
    """Official names to ours."""
    stages = decoder_stages(hparams["dec_blocks"])
    limit = hparams.get("no_bias_above", 64)
    with_bias = sorted({stage["resolution"] for stage in stages if stage["resolution"] <= limit})

    def bias(holes: Mapping[str, int]) -> str:
        if holes["k"] >= len(with_bias):
            raise UserError(f"decoder.bias_xs.{holes['k']}: the layout has only {len(with_bias)} resolutions with bias")
        return f"decoder.biases.{with_bias[holes['k']]}"

    part = "{p:weight|bias}"
    return [
        Rule(f"encoder.in_conv.{part}", "encoder.stem.{p}"),
        Rule(f"encoder.enc_blocks.{{i}}.c{{j}}.{part}", "encoder.blocks.{i}.conv{j}.{p}"),
        Rule(f"decoder.dec_blocks.{{i}}.enc.c{{j}}.{part}", "decoder.layers.{i}.posterior.conv{j}.{p}"),
        Rule(f"decoder.dec_blocks.{{i}}.prior.c{{j}}.{part}", "decoder.layers.{i}.prior.conv{j}.{p}"),
        Rule(f"decoder.dec_blocks.{{i}}.resnet.c{{j}}.{part}", "decoder.layers.{i}.residual.conv{j}.{p}"),
        Rule(f"decoder.dec_blocks.{{i}}.z_proj.{part}", "decoder.layers.{i}.project.{p}"),
        Rule("decoder.bias_xs.{k}", bias),
        Rule("decoder.{p:gain|bias}", "decoder.{p}"),
        Rule(f"decoder.out_net.out_conv.{part}", "head.{p}"),
    ]
