"""Pieces that at least two models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint


def nearest_upsample(x: Tensor, factor: int) -> Tensor:
    """Repeat every pixel `factor` times along both axes: (B, C, R, R) -> (B, C, factor * R, factor * R)."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def pad_channels(x: Tensor, width: int) -> Tensor:
    """Append zero channels until there are `width` of them: (B, C, R, R) -> (B, width, R, R)."""
    missing = width - x.shape[1]
    if missing == 0:
        return x
    return F.pad(x, (0, 0, 0, 0, 0, missing))


def recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` without keeping its activations; the backward pass computes them again.

    Random numbers drawn inside are repeated exactly. Outside of training this is a plain call.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False)
