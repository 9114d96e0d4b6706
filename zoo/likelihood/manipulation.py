"""Policies and functions that change latents: guidance, mixing, sweeping, widening.

They know sites only, so they work for every hierarchical model whose latents are Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite, gaussian

Mix = Literal["linear", "spherical", "variance_preserving"]


class Named:
    """Other policies for some sites, by name; one policy for the rest.

    Args:
        policies: site name -> policy.
        default: policy of all other sites.
    """

    def __init__(self, policies: Mapping[str, LatentPolicy], default: LatentPolicy) -> None:
        self.policies = policies
        self.default = default

    def __call__(self, site: LatentSite) -> Tensor:
        """Ask the policy in charge of this name."""
        return self.policies.get(site.name, self.default)(site)


class GuidedPrior:
    """Classifier-free guidance of a conditional hierarchy (Luhman & Luhman 2023, equation 2).

    The batch is doubled: images with their label, then the same images without one. At every site
    `mean = m_c + w_mean (m_c - m_u)` and `variance = v_c (v_c / v_u) ** w_std`; one value is drawn and given to both
    halves. With both weights 0 the first half is what `SamplePrior` draws.

    Args:
        mean_weight: w_mean; a number, or one per level in generation order (a level is a run of sites of one size).
        std_weight: w_std, likewise.
        temperature: multiplies the guided standard deviation.
        exempt_single: leave means at 1x1 unguided when `mean_weight` is a number, as the paper does (its released
            scripts do not).
        noise: recorded standard normals by site, instead of fresh ones.
    """

    def __init__(
        self,
        mean_weight: float | Sequence[float],
        std_weight: float | Sequence[float],
        temperature: float = 1.0,
        exempt_single: bool = True,
        noise: Sequence[Tensor] | None = None,
    ) -> None:
        self.mean_weight, self.std_weight = mean_weight, std_weight
        self.temperature, self.exempt_single, self.noise = temperature, exempt_single, noise
        self._sizes: list[int] = []

    def __call__(self, site: LatentSite) -> Tensor:
        """Draw once from the guided prior; (2n, ...) with equal halves."""
        prior = gaussian(site.prior)
        side = prior.mean.shape[-1]
        if not self._sizes or self._sizes[-1] != side:
            self._sizes.append(side)
        mean_c, mean_u = prior.mean.chunk(2)
        log_std_c, log_std_u = prior.log_std.chunk(2)
        w_mean, w_std = self._weight(self.mean_weight), self._weight(self.std_weight)
        if self.exempt_single and side == 1 and not isinstance(self.mean_weight, Sequence):
            w_mean = 0.0
        guided = DiagonalGaussian(
            mean_c + w_mean * (mean_c - mean_u), log_std_c + w_std * (log_std_c - log_std_u)
        ).scaled(self.temperature)
        z = guided.sample(None if self.noise is None else self.noise[site.index])
        return torch.cat([z, z])

    def _weight(self, weight: float | Sequence[float]) -> float:
        return float(weight[len(self._sizes) - 1]) if isinstance(weight, Sequence) else float(weight)


def mix_latents(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    weight: float,
    mix: Mix = "linear",
    choose: Callable[[int, Tensor], bool] | None = None,
) -> list[Tensor]:
    """Latents between those of two images; `weight` 1 gives exactly the first, 0 the second.

    Args:
        first: latents of one image by site, each (1, Z, R, R) or (B, Z, R, R).
        second: latents of the other, same shapes.
        weight: share of the first.
        mix: "linear" is the paper's; it halves the variance of independent draws midway. "spherical" follows the
            great circle between the two latents of each site and image, "variance_preserving" weighs with a cosine
            and a sine.
        choose: `choose(index, latent)` says whether a site is mixed; the others keep the first image's latent.

    Returns:
        One tensor per site.
    """
    mixed = []
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.shape != b.shape or not a.is_floating_point():
            raise ValueError(f"site {index}: latents of type {a.dtype} and shapes {tuple(a.shape)}, {tuple(b.shape)}")
        if weight == 1.0 or (choose is not None and not choose(index, a)):
            mixed.append(a)
        elif weight == 0.0:
            mixed.append(b)
        else:
            mixed.append(_mixed(a, b, weight, mix))
    return mixed


def _mixed(a: Tensor, b: Tensor, weight: float, mix: Mix) -> Tensor:
    if mix == "linear":
        return weight * a + (1.0 - weight) * b
    if mix == "variance_preserving":
        return math.sin(0.5 * math.pi * weight) * a + math.cos(0.5 * math.pi * weight) * b
    # (B, ...) -> (B, D): the angle is that between whole latents of a site
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.cosine_similarity(flat_a, flat_b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(cosine)[:, None]
    # Lengths go linearly, directions along the arc.
    length_a, length_b = flat_a.norm(dim=1, keepdim=True), flat_b.norm(dim=1, keepdim=True)
    arc = torch.sin(weight * angle) * flat_a / length_a.clamp_min(1e-12)
    arc = arc + torch.sin((1.0 - weight) * angle) * flat_b / length_b.clamp_min(1e-12)
    mixed: Tensor = (weight * length_a + (1.0 - weight) * length_b) * arc / torch.sin(angle)
    return mixed.reshape(a.shape)


class SharedNoise:
    """Prior samples that share one noise draw over the batch, with chosen channels set to given noise values.

    Args:
        edits: site index -> (channel, values (n,)): noise of that channel at all positions, one value per image.
        seed: of the shared noise.
        temperature: multiplies the shared noise, not the edits.
    """

    def __init__(self, edits: Mapping[int, tuple[int, Tensor]], seed: int = 0, temperature: float = 1.0) -> None:
        self.edits = edits
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, site: LatentSite) -> Tensor:
        """`mean + std * noise` of the prior."""
        prior = gaussian(site.prior)
        shape = prior.mean.shape
        noise = torch.randn((1, *shape[1:]), generator=self.generator).to(prior.mean) * self.temperature
        noise = noise.repeat(shape[0], *(1 for _ in shape[1:]))  # (1, Z, R, R) -> (n, Z, R, R)
        if site.index in self.edits:
            channel, values = self.edits[site.index]
            noise[:, channel] = values.to(noise)[:, None, None]
        return prior.sample(noise)


class Widen:
    """Known latents in a part of a larger canvas, prior samples around them.

    Sites of the given size (1x1, which has no place) keep their latent; so do the given positions of all others.

    Args:
        given: latents of an image by site.
        start: (top, left) of the image within the canvas, as fractions of the canvas.
        temperature: of the prior around it.
    """

    def __init__(self, given: Sequence[Tensor], start: tuple[float, float], temperature: float = 1.0) -> None:
        self.given = given
        self.start = start
        self.temperature = temperature

    def __call__(self, site: LatentSite) -> Tensor:
        """Draw the whole canvas and put the known latents in their place."""
        prior = gaussian(site.prior).scaled(self.temperature)
        known = self.given[site.index]
        height, width = prior.mean.shape[-2:]
        if known.shape[-2:] == (height, width):
            return known
        z = prior.sample()
        top, left = round(self.start[0] * height), round(self.start[1] * width)
        z[..., top : top + known.shape[-2], left : left + known.shape[-1]] = known
        return z
