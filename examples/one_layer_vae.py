"""A VAE with one group of latents, complete: it is trained, priced, sampled and coded as the zoo's own models.

ZOO_PLUGINS=one_layer_vae zoo fit --config one_layer_vae.yaml
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.likelihood import (
    AncestralModel,
    DiagonalGaussian,
    LatentPolicy,
    LatentSite,
    LogisticMixture,
    check_bits,
    level_values,
    to_levels,
)


class OneLayerVAE(AncestralModel):
    """Convolutional encoder and decoder around a grid of Gaussian latents (Kingma & Welling 2014).

    Args:
        image_size: height and width of the images, a multiple of 4.
        bits: depth of the levels that are priced.
        width: channels of the hidden layers.
        latents: channels Z of the latent grid.
        mixtures: logistics per pixel.
    """

    def __init__(
        self, image_size: int = 32, bits: int = 8, width: int = 32, latents: int = 4, mixtures: int = 5
    ) -> None:
        super().__init__()
        self.bits, self.image_shape = check_bits(bits), (3, image_size, image_size)
        self.latents = latents
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.Conv2d(width, 2 * latents, 3, padding=1))
        self.decoder = nn.Sequential(
            nn.Conv2d(latents, width, 3, padding=1), nn.GELU(), nn.ConvTranspose2d(width, 10 * mixtures, 4, 4)
        )

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> LogisticMixture:
        """Ask the policy for z, decode it."""
        posterior = None
        if x is not None:
            n = len(x)
            levels = to_levels(x, self.bits)  # the encoder sees what is priced, nothing more
            mean, log_std = self.encoder(level_values(levels, self.bits)).chunk(2, dim=1)
            posterior = DiagonalGaussian(mean, log_std.clamp(-5, 2))  # (B, Z, R, R), R = image_size / 4
        side = self.image_shape[1] // 4
        prior = DiagonalGaussian.standard_like(torch.zeros(n, self.latents, side, side, device=self.device))
        z = policy(LatentSite("z", 0, prior, posterior))  # (B, Z, R, R)
        return LogisticMixture.from_head(self.decoder(z), self.bits)  # head (B, 10 M, H, W)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
