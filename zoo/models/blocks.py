"""Pieces that at least two models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from zoo.likelihood import DiagonalGaussian


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


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution: (B, C, R, R), (W, C, 1, 1), (W,) -> (B, W, R, R).

    Where channels are the innermost axis (channels-last) it is one matrix product without any copy, which on a CPU is
    the faster the smaller the images are.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(x, weight, bias)
    # (B, C, R, R) -> view (B, R, R, C) -> (B, R, R, W) -> view (B, W, R, R), again channels-last
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that goes through `pointwise`."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, R, R) -> (B, width_out, R, R)."""
        return pointwise(x, self.weight, self.bias)


def recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` without keeping its activations; the backward pass computes them again.

    Random numbers drawn inside are repeated exactly. Outside of training this is a plain call.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False)


def within_reach(posterior: DiagonalGaussian, prior: DiagonalGaussian, reach: float) -> DiagonalGaussian:
    """The posterior, kept near the prior, so that no latent of an unusual image can cost without bound.

    Any distribution is a valid posterior, so the bound on -log p(x) stays one.

    Args:
        posterior: what the network proposes.
        prior: p(z | above).
        reach: largest distance of the means, in standard deviations of the prior. The posterior's standard deviation is
            at most e times the prior's.
    """
    distance = reach * prior.std
    mean = prior.mean + (posterior.mean - prior.mean).clamp(-distance, distance)
    return DiagonalGaussian(mean, torch.minimum(posterior.log_std, prior.log_std + 1.0))
