"""Reads the configuration files of the official Efficient-VDVAE code and writes the network down in our words.

The files are INI files whose values are Python expressions (`[1] * 11 + [2]`, `8.`, `16 * 4`). The official code
evaluates them; here only literals and arithmetic are understood and nothing is executed.
"""

from __future__ import annotations

import ast
import configparser
import operator
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.models.efficient_vdvae.architecture import BottomUpStage, TopDownStage

Sections = dict[str, dict[str, Any]]

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_LONGEST = 100_000  # no network has as many levels; a longer list or number is an attack or a mistake


def evaluate(text: str) -> Any:
    """Value of a literal or of arithmetic on literals.

    Raises:
        NameError: the text uses a name (the official code then keeps the text itself).
        ValueError: the text is anything else than literals and arithmetic.

    Example:
        >>> evaluate("[1] * 3 + [2]"), evaluate("16 * 4")
        ([1, 1, 1, 2], 64)
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left), _value(node.right)
        _limit(node.op, left, right)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Name):
        raise NameError(node.id)
    raise ValueError(f"{ast.unparse(node)!r} is neither a literal nor arithmetic")


def _limit(op: ast.operator, left: Any, right: Any) -> None:
    """Refuse expressions that would fill the memory."""
    for sequence, factor in ((left, right), (right, left)):
        repeats = isinstance(op, ast.Mult) and isinstance(sequence, (list, tuple, str, bytes))
        if repeats and isinstance(factor, int) and len(sequence) * factor > _LONGEST:
            raise ValueError(f"a list of {len(sequence) * factor} elements")
    if isinstance(op, ast.Pow) and abs(right) > 64:
        raise ValueError(f"the exponent {right}")


def read_hparams(path: str | os.PathLike[str]) -> Sections:
    """Read a configuration file of the official code, published or saved by a run.

    Args:
        path: the `.cfg` file.

    Returns:
        section -> key -> value.

    Raises:
        UserError: the file is missing or is not such a file.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such configuration file; give the run's hparams-<name>.cfg")
    try:
        return parse_hparams(file.read_text())
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a text file; give the run's hparams-<name>.cfg") from error


def parse_hparams(text: str) -> Sections:
    """The contents of a configuration file; see `read_hparams`."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise UserError(f"not an INI file ({str(error).splitlines()[0]})") from error
    sections: Sections = {}
    for section in parser.sections():
        values = sections.setdefault(section, {})
        for key, raw in parser.items(section):
            try:
                values[key] = raw if (section, key) == ("run", "name") else evaluate(raw)
            except NameError:
                values[key] = raw
            except ValueError as error:
                raise UserError(f"{section}.{key}: {error}; expected a literal or arithmetic") from error
    return sections


def network_arguments(sections: Sections) -> dict[str, Any]:
    """Configuration of the official code -> arguments of `zoo.models.EfficientVDVAE`.

    Raises:
        UserError: a key is missing, or the settings do not fit together.
    """
    try:
        data, model, loss = sections["data"], sections["model"], sections["loss"]
        resolution = data["target_res"]
        digits = data["dataset_source"] == "binarized_mnist"
        side = 28 if digits else resolution
        own_beta = "output_gradient_smoothing_beta"
        output_beta = own_beta if own_beta in model else "gradient_smoothing_beta"
        return {
            "image_shape": [data["channels"], side, side],
            "bits": 1 if digits else int(data["num_bits"]),
            "architecture": {
                "bottom_up": [asdict(stage) for stage in up_stages(model)],
                "top_down": [asdict(stage) for stage in down_stages(model)],
                "pad": (resolution - side) // 2,
                "latent_scale": model["distribution_base"],
                "latent_beta": float(model["gradient_smoothing_beta"]),
                "residual_posterior": model["use_residual_distribution"],
                "zero_prior": model["initialize_prior_weights_as_zero"],
                "stable_init": model["stable_init"],
                "pointwise": model["use_1x1_conv"],
                "input_kernel": _square(model, "input_kernel_size"),
                "output_kernel": _square(model, "output_kernel_size"),
            },
            "output": {
                "mixtures": 0 if digits else model["num_output_mixtures"],
                # copies from before April 2022 lack the two: the output then used the settings of the latents
                "scale": model.get("output_distribution_base", model["distribution_base"]),
                "beta": float(model[output_beta]),
                "min_log_scale": float(loss["min_mol_logscale"]),
            },
            "schedule": _schedule(loss),
        }
    except KeyError as error:
        raise UserError(f"lacks {error.args[0]!r}; expected a complete configuration of the official code") from error
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"settings do not fit together: {error}") from error


def _schedule(loss: dict[str, Any]) -> dict[str, Any]:
    """The KL weights during training."""
    return {
        "kind": str(loss["variation_schedule"]).lower(),
        "start": loss["vae_beta_anneal_start"],
        "steps": loss["vae_beta_anneal_steps"],
        "floor": float(loss["vae_beta_min"]),
        "midpoint": loss["vae_beta_activation_steps"],
        "growth": float(loss["vae_beta_growth_rate"]),
        "balance_steps": loss["gamma_max_steps"] if loss["use_gamma_schedule"] else -1,
        "balance_by_size": loss["scaled_gamma"],
    }


def _square(model: dict[str, Any], key: str) -> int:
    """Side of a kernel given as a number or a pair."""
    size = model[key]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise UserError(f"model.{key}: {size} is not square")
    return sides.pop()


def _columns(model: dict[str, Any], prefix: str, keys: list[str]) -> list[dict[str, Any]]:
    """Parallel lists -> one dict per level."""
    columns = {key: model[f"{prefix}_{key}"] for key in keys}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"model.{prefix}_*: lists of different lengths {lengths}")
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def up_stages(model: dict[str, Any]) -> list[BottomUpStage]:
    """Runs of equal bottom-up levels, from the image downwards."""
    keys = ["strides", "n_blocks_per_res", "n_blocks", "n_layers", "filters", "mid_filters_ratio", "kernel_size"]
    stages: list[BottomUpStage] = []
    previous: dict[str, Any] = {}
    width, pooled = model["input_conv_filters"], True
    for level in _columns(model, "up", [*keys, "skip_filters"]):
        settings = {
            "width": width,
            "ratio": level["mid_filters_ratio"],
            "kernel": level["kernel_size"],
            "skip": None if level["skip_filters"] == width else level["skip_filters"],
            "cells": level["n_blocks"],
            "layers": level["n_layers"],
        }
        blocks, stride = level["n_blocks_per_res"] + 1, level["strides"]
        if pooled or settings != previous:
            stages.append(BottomUpStage(blocks=[blocks], stride=stride, **settings))
        else:
            stages[-1] = BottomUpStage(blocks=[*stages[-1].blocks, blocks], stride=stride, **settings)
        if stride == 1 and level["filters"] != width:
            raise UserError(f"model.up_filters: {level['filters']} after {width} at a level with stride 1")
        width, pooled, previous = level["filters"], stride > 1, settings
    return stages


def down_stages(model: dict[str, Any]) -> list[TopDownStage]:
    """Runs of equal top-down levels, from the lowest resolution upwards."""
    keys = ["strides", "n_blocks_per_res", "n_blocks", "n_layers", "filters", "mid_filters_ratio", "kernel_size"]
    stages: list[TopDownStage] = []
    previous: dict[str, Any] = {}
    for level in _columns(model, "down", [*keys, "latent_variates"]):
        settings = {
            "width": level["filters"],
            "latents": level["latent_variates"],
            "ratio": level["mid_filters_ratio"],
            "kernel": level["kernel_size"],
            "cells": level["n_blocks"],
            "layers": level["n_layers"],
        }
        blocks, stride = level["n_blocks_per_res"] + 1, level["strides"]
        if stride > 1 or settings != previous:
            stages.append(TopDownStage(blocks=[blocks], stride=stride, **settings))
        else:
            stages[-1] = TopDownStage(blocks=[*stages[-1].blocks, blocks], stride=stages[-1].stride, **settings)
        previous = settings
    return stages
