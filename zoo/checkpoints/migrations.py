"""Specifications written by earlier versions, brought to the arguments of today: one function for each class.

A function takes the arguments as they were stored and returns those that the class takes now; it leaves today's
arguments alone, so that it may be applied twice. The weights never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import UserError

Arguments = dict[str, Any]


def migrated(node: Any) -> Any:
    """A specification, or anything that holds some, with the arguments of every class it names brought up to date.

    Example:
        >>> migrated({"class_path": "VDM", "init_args": {"coding_steps": 50, "width": 32}})
        {'class_path': 'VDM', 'init_args': {'steps': 50, 'score': {'width': 32}}}
    """
    if isinstance(node, Mapping):
        node = {key: migrated(value) for key, value in node.items()}
        path, arguments = node.get("class_path"), node.get("init_args")
        if isinstance(path, str) and isinstance(arguments, Mapping):
            migrate = MIGRATIONS.get(path.rpartition(".")[2], dict)
            node["init_args"] = migrate({RENAMED.get(str(name), str(name)): v for name, v in arguments.items()})
        return node
    if isinstance(node, (list, tuple)):
        return [migrated(value) for value in node]
    return node


def gathered(arguments: Arguments, groups: Mapping[str, Mapping[str, str]]) -> Arguments:
    """Single arguments moved into groups.

    Args:
        arguments: as stored.
        groups: name of a group -> old name of an argument -> its name in the group.
    """
    moved = {old: (group, new) for group, names in groups.items() for old, new in names.items()}
    result: Arguments = {}
    for name, value in arguments.items():
        if name in moved and not (name in groups and isinstance(value, Mapping)):
            group, new = moved[name]
            result[group] = {**result.get(group, {}), new: value}
        else:
            result[name] = value
    return result


def without(arguments: Arguments, *names: str) -> Arguments:
    """All arguments but these: recomputation is a matter of the training module now (`model.recompute`)."""
    return {name: value for name, value in arguments.items() if name not in names}


def vdm(arguments: Arguments) -> Arguments:
    """Twenty arguments became three groups."""
    score = ("width", "blocks", "attention", "middle_attention", "groups", "dropout", "fourier_exponents")
    groups = {
        "score": {name: name for name in score},
        "schedule": {
            "schedule": "kind",
            "schedule_width": "width",
            "gamma_min": "gamma_min",
            "gamma_max": "gamma_max",
        },
        "bound": {name: name for name in ("train_steps", "low_discrepancy", "eval_draws", "ode_tolerance")},
    }
    arguments = {"steps" if name == "coding_steps" else name: value for name, value in arguments.items()}
    return gathered(without(arguments, "checkpoint_activations"), groups)


SNAIL_SWITCHES = {
    "taps": "wide",
    "centre": "open",
    "key_content": "symbols",
    "residual_skip": "identity",
    "dropout_place": "after",
    "attention_dropout": "logits",
}
"""What the causal network was told one by one before `variant`, with the defaults; the last two concern dropout."""
SNAIL_VARIANTS = {
    "razavi": ("wide", "open", "symbols", "identity", "after", "logits"),
    "razavi-fused": ("wide", "open", "symbols", "identity", "after", "probs"),
    "chen": ("down_right", "open", "symbols", "identity", "inside", "probs"),
    "public": ("wide", "masked", "features", "identity", "inside", "probs"),
    "public-inplace": ("wide", "masked", "features", "elu", "inside", "probs"),
}


def snail(arguments: Arguments) -> Arguments:
    """Six switches of the causal network became one variant."""
    trunk = arguments.get("trunk")
    if not isinstance(trunk, Mapping):
        return arguments
    rest = without(dict(trunk), "checkpointing", *SNAIL_SWITCHES)
    if SNAIL_SWITCHES.keys() & trunk.keys():
        given = tuple({**SNAIL_SWITCHES, **trunk}[name] for name in SNAIL_SWITCHES)
        dropped = trunk.get("dropout", 0.1) > 0 or trunk.get("stack_dropout", -1.0) > 0
        compared = len(given) if dropped else 4
        fits = [name for name, switches in SNAIL_VARIANTS.items() if switches[:compared] == given[:compared]]
        if not fits:
            raise UserError(f"trunk: no variant has {dict(zip(SNAIL_SWITCHES, given, strict=True))}")
        rest["variant"] = fits[0]
    return {**arguments, "trunk": rest}


def vdvae(arguments: Arguments) -> Arguments:
    """Nineteen arguments became the architecture, what the encoder sees, and aids for short trainings."""
    arguments = without(arguments, "checkpoint_activations")
    if "image_size" in arguments or "image_channels" in arguments:
        channels, side = arguments.pop("image_channels", 3), arguments.pop("image_size", 32)
        arguments["image_shape"] = [channels, side, side]
    architecture = ("encoder", "decoder", "width", "widths", "latent_channels", "bottleneck", "bias_up_to", "mixtures")
    groups = {
        "architecture": {name: name for name in architecture},
        "sees": {"input_bits": "bits", "shift": "shift", "scale": "scale"},
        "aids": {**{name: name for name in ("posterior_gain", "kl_warmup_steps")}, **SHIFT},
    }
    return gathered(arguments, groups)


def efficient_vdvae(arguments: Arguments) -> Arguments:
    """Twenty-three arguments became the architecture, the output, and aids for short trainings."""
    architecture = (
        *("bottom_up", "top_down", "pad", "latent_scale", "latent_beta", "residual_posterior", "zero_prior"),
        *("stable_init", "pointwise", "input_kernel", "output_kernel"),
    )
    groups = {
        "architecture": {name: name for name in architecture},
        "output": {
            "mixtures": "mixtures",
            "output_scale": "scale",
            "output_beta": "beta",
            "min_log_scale": "min_log_scale",
        },
        "aids": {**{name: name for name in ("initial_scale", "posterior_gain")}, **SHIFT},
    }
    if arguments.get("schedule", {}) is None:
        arguments = without(arguments, "schedule")
    return gathered(without(arguments, "recompute"), groups)


def latent_hierarchy(arguments: Arguments) -> Arguments:
    """Recomputation left the network."""
    return without(arguments, "checkpoint_activations")


SHIFT = {"posterior_reach": "max_posterior_shift"}
RENAMED = {"convention": "bins"}
"""Arguments of several classes that had another name when older checkpoints were written."""
MIGRATIONS: dict[str, Callable[[Arguments], Arguments]] = {
    "CodePrior": snail,
    "EfficientVDVAE": efficient_vdvae,
    "HierarchicalVAE": latent_hierarchy,
    "PixelSNAIL": snail,
    "VDM": vdm,
    "VDVAE": vdvae,
}
