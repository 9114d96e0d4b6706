"""Pieces that at least two models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from zoo.likelihood import DiagonalGaussian, LatentPolicy, LatentSite, Remembering
from zoo.likelihood.precision import full


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


def site_name(number: int, height: int, width: int) -> str:
    """Name of a group of latents: its number from the top and the size of its grid.

    Example:
        >>> site_name(4, 8, 8)
        'z04_8x8'
    """
    return f"z{number:02d}_{height}x{width}"


def ramp(step: int | Tensor, start: float, length: float, floor: float) -> Tensor:
    """A weight that rises in a straight line from `floor` to 1: KL warm-up.

    Args:
        step: training step; a tensor, so that compiled code is not compiled anew at every step.
        start: where the line begins.
        length: steps from there to 1.
        floor: smallest weight, so that the posterior never runs free of the prior.

    Returns:
        Scalar, `(step - start) / length` kept between `floor` and 1.
    """
    return ((torch.as_tensor(step, dtype=torch.float32) - start) / length).clamp(floor, 1.0)


def within(posterior: DiagonalGaussian, prior: DiagonalGaussian, max_shift: float) -> DiagonalGaussian:
    """The posterior, kept near the prior, so that no latent of an unusual image can cost without bound.

    Any distribution is a valid posterior, so the bound on -log p(x) stays one.

    Args:
        posterior: what the network proposes.
        prior: p(z | above).
        max_shift: largest distance of the means, in standard deviations of the prior. The posterior's standard
            deviation is at most e times the prior's.
    """
    distance = max_shift * prior.std
    mean = prior.mean + (posterior.mean - prior.mean).clamp(-distance, distance)
    return DiagonalGaussian(mean, torch.minimum(posterior.log_std, prior.log_std + 1.0))


class TopDownLayer(nn.Module, ABC):
    """One stochastic layer of a hierarchy: what VDVAE, Efficient-VDVAE and the latent VAE have in common.

    A family says what its three networks are, from tensors to tensors; what happens between them stands here:

        prior, features = propose(h);   posterior = infer(h, seen);   z <- policy;   h <- descend(h, features, z)

    Args:
        index: position in the traversal, 0 is the top.
        name: see `site_name`.
        max_posterior_shift: see `within`; None sets no limit.
    """

    def __init__(self, index: int, name: str, max_posterior_shift: float | None = None) -> None:
        super().__init__()
        self.index, self.name, self.max_posterior_shift = index, name, max_posterior_shift

    @abstractmethod
    def propose(self, h: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log std of p(z | above), (B, Z, R, R) each, and what the layer adds to the state besides z."""

    @abstractmethod
    def infer(self, h: Tensor, seen: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log std of q(z | above, x), (B, Z, R, R) each, from the state and what was seen of the image."""

    @abstractmethod
    def descend(self, h: Tensor, features: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The state below the layer."""

    def near(self, posterior: DiagonalGaussian, prior: DiagonalGaussian) -> DiagonalGaussian:
        """The posterior as it is used."""
        return posterior if self.max_posterior_shift is None else within(posterior, prior, self.max_posterior_shift)

    def forward(
        self,
        h: Tensor,
        seen: Tensor | None,
        policy: LatentPolicy,
        label: Tensor | None = None,
        prior_label: Tensor | None = None,
    ) -> Tensor:
        """The step from the state above to the state below.

        Args:
            h: (B, W, R, R) state.
            seen: (B, S, R, R) activations of the image, or None when no image is given.
            policy: where the latents come from.
            label: (B, E) embedded label that the posterior reads, in families with labels.
            prior_label: the one that prior and state read.
        """
        memory = policy if isinstance(policy, Remembering) else None
        if memory is not None and self.index in memory.kept:
            prior, below = memory.kept[self.index]
            policy(LatentSite(self.name, self.index, prior, self._posterior(h, seen, prior, label)))
            return below
        mean, log_std, features = self.propose(h, prior_label)
        prior = DiagonalGaussian(full(mean), full(log_std))
        z = policy(LatentSite(self.name, self.index, prior, self._posterior(h, seen, prior, label)))
        below = self.descend(h, features, z.to(h.dtype), prior_label)
        if memory is not None:
            memory.keep(self.index, prior, below)
        return below

    def _posterior(
        self, h: Tensor, seen: Tensor | None, prior: DiagonalGaussian, label: Tensor | None
    ) -> DiagonalGaussian | None:
        """The posterior, where an image was seen."""
        if seen is None:
            return None
        mean, log_std = self.infer(h, seen, label)
        return self.near(DiagonalGaussian(full(mean), full(log_std)), prior)
