"""The upsampling stack of Luhman & Luhman (2023), Table 1: a hierarchy over small images and one that enlarges them.

Letters: B batch, C channels, H x W image size, k factor between the small and the large image.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite, SamplePrior
from zoo.likelihood.manipulation import Named
from zoo.models.latent_vae.balance import RateSchedule
from zoo.models.latent_vae.hierarchy import HierarchicalVAE
from zoo.models.latent_vae.model import LATENT, LatentVAE, PixelSpace
from zoo.models.latent_vae.pixels import PixelHead

SMALL = "small"
"""Name of the site of the small image; the groups of the network below it start with `small_`."""


class _Renamed:
    """Hands a policy sites under other names and positions, so that two hierarchies follow one another."""

    def __init__(self, policy: LatentPolicy, prefix: str = "", first: int = 0) -> None:
        self.policy, self.prefix, self.first = policy, prefix, first

    def __call__(self, site: LatentSite) -> Tensor:
        name, index = f"{self.prefix}{site.name}", self.first + site.index
        return self.policy(LatentSite(name, index, site.prior, site.posterior))


class UpsamplingStack(LatentVAE):
    """Pixel-space hierarchy conditioned on a small image, with the model of small images in front of it.

    Training uses the small version of each image without noise, as the paper does. With a `base`, the small image is a
    Gaussian site of its own, so the sum of all terms bounds the pixels of the large image (ours; the paper prices
    none).

    Args:
        hierarchy: network with `condition_channels`; its lowest level has the small image's side.
        image_size: side of the large images.
        base: trained hierarchy over small images; None: the stack can be trained but neither priced nor sampled.
        pixel_head: see `LatentVAE`.
        sigma_q: of the large image, on the [-1, 1] axis.
        base_sigma_q: of the small image.
        schedule: see `LatentVAE`.
        spectral_weight: see `LatentVAE`.
        bits: depth of the pixels.
        train: see `LatentVAE`.
    """

    def __init__(
        self,
        hierarchy: HierarchicalVAE,
        image_size: int,
        base: HierarchicalVAE | None = None,
        pixel_head: PixelHead | None = None,
        sigma_q: float = 0.05,
        base_sigma_q: float = 0.035,
        schedule: RateSchedule | None = None,
        spectral_weight: float = 0.25,
        bits: int = 8,
        train: Literal["hierarchy", "pixels", "both"] = "both",
    ) -> None:
        super().__init__(
            PixelSpace(hierarchy.channels),
            hierarchy,
            image_size,
            pixel_head,
            sigma_q=sigma_q,
            schedule=schedule,
            spectral_weight=spectral_weight,
            bits=bits,
            train=train,
            price="codes" if base is None else "pixels",
        )
        self.canvas_unit = None
        if hierarchy.condition is None:
            raise UserError("hierarchy.condition_channels: 0, but an upsampler starts from a small image; give 3")
        if base is not None and base.resolution != hierarchy.sides[0]:
            raise UserError(f"base.resolution: {base.resolution}, but the upsampler starts from {hierarchy.sides[0]}")
        self.base = None if base is None else base.requires_grad_(False)
        self.base_sigma_q = base_sigma_q

    def small(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, C, H/k, W/k) on [-1, 1], bilinear with anti-aliasing."""
        side = self.hierarchy.sides[0]
        return F.interpolate(self.values(x), size=(side, side), mode="bilinear", antialias=True)

    def latent_pass(
        self,
        policy: LatentPolicy,
        x: Tensor | None = None,
        n: int = 1,
        label: Tensor | None = None,
        prior_label: Tensor | None = None,
        canvas: tuple[int, int] | None = None,
    ) -> Tensor:
        """Visit the small image's groups, the small image, the large one's groups, and it; see `LatentVAE`."""
        if canvas is not None:
            raise UserError("the pictures of an upsampling stack cannot grow; use a latent VAE")
        large = None if x is None else self.latent_posterior(x)
        small, index = None if x is None else self.small(x), 0
        if self.base is not None:
            prior = self.base.ancestral_pass(_Renamed(policy, f"{SMALL}_"), small, n)
            posterior = None
            if small is not None:
                posterior = DiagonalGaussian(small, torch.full_like(small, math.log(self.base_sigma_q)))
            index = len(self.base.layers) + 1
            small = policy(LatentSite(SMALL, index - 1, prior, posterior))
        if small is None:
            raise UserError("this upsampler has no model of small images; assemble it with `base` to sample")
        y = None if large is None else large.mean
        out = self.hierarchy.ancestral_pass(_Renamed(policy, first=index), y, len(small), condition=small)
        return policy(LatentSite(LATENT, index + len(self.hierarchy.layers), out, large))

    @torch.no_grad()
    def render(
        self,
        policy: LatentPolicy,
        n: int = 1,
        label: Tensor | None = None,
        canvas: tuple[int, int] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Pictures from the means of the small and of the large image; see `LatentVAE.render`."""
        return super().render(Named({SMALL: SamplePrior(0.0)}, policy), n, label, canvas, x)
