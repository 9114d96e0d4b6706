"""A normalised pixel distribution around the output of a first stage's decoder, so that a latent model bounds pixels.

Not in the paper, which prices no pixels. Letters: B batch, C image channels, E latent channels, M mixture components.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.levels import half_bin, to_levels
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.model import PixelDistribution
from zoo.likelihood.precision import full, outside_autocast
from zoo.likelihood.visit import Choose
from zoo.models.latent_vae.blocks import scaled_xavier_
from zoo.models.pixelsnail import AutoregressivePixels, CausalPixels, SnailConfig


class HeadBlock(nn.Module):
    """Residual block of the head: 3x3 convolution, widened 1x1 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(self.narrow.weight)
        assert self.narrow.bias is not None
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        result: Tensor = x + self.narrow(F.silu(self.widen(F.silu(self.conv(F.silu(x))))))
        return result


class PixelBody(nn.Module):
    """A few convolutions over a reconstruction and the latent it was decoded from; a head stands on them.

    Args:
        latent_channels: E of the first stage.
        width: channels of the convolutions.
        blocks: residual blocks.
        image_channels: C, 1 or 3.
    """

    def __init__(self, latent_channels: int, width: int, blocks: int, image_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image_channels + latent_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(blocks))

    def context(self, centre: Tensor, latent: Tensor) -> Tensor:
        """(B, width, H, W) of a clamped reconstruction (B, C, H, W) and its latent (B, E, h, w)."""
        spread = F.interpolate(latent, size=centre.shape[-2:], mode="nearest")
        h = self.stem(torch.cat([centre, spread], dim=1))
        for block in self.blocks:
            h = block(h)
        return F.silu(h)

    def forward(self, reconstruction: Tensor, latent: Tensor, bits: int) -> PixelDistribution:
        """Distribution of the levels.

        Args:
            reconstruction: (B, C, H, W) decoder output, on the [-1, 1] axis.
            latent: (B, E, h, w) the latent it was decoded from, in normalised units.
            bits: depth of the levels.
        """
        raise NotImplementedError


class PixelHead(PixelBody):
    """Discretised logistic mixture centred on a reconstruction.

    The body corrects the means and gives scales, weights and the coupling of the colours. At initialisation all
    components sit on the reconstruction.

    Args:
        latent_channels: E of the first stage.
        width: channels of the convolutions.
        blocks: residual blocks.
        mixtures: M.
        image_channels: C, 1 or 3.
        initial_log_scale: log-scale of every component at initialisation, on the [-1, 1] axis.
    """

    def __init__(
        self,
        latent_channels: int,
        width: int = 64,
        blocks: int = 4,
        mixtures: int = 5,
        image_channels: int = 3,
        initial_log_scale: float = -3.0,
    ) -> None:
        super().__init__(latent_channels, width, blocks, image_channels)
        self.mixtures, self.image_channels = mixtures, image_channels
        self.couplings = 3 if image_channels == 3 else 0
        self.out = nn.Conv2d(width, mixtures * (1 + 2 * image_channels + self.couplings), 1)
        scaled_xavier_(self.out, 1e-2)
        self.initial_log_scale = initial_log_scale

    def forward(self, reconstruction: Tensor, latent: Tensor, bits: int) -> LogisticMixture:
        """Distribution of the levels; see `PixelBody.forward`."""
        M, C = self.mixtures, self.image_channels
        centre = full(reconstruction).clamp(-1.0, 1.0)
        out = outside_autocast(self.out, self.context(centre, latent))
        logits, shifts, scales, couplings = out.split([M, C * M, C * M, self.couplings * M], dim=1)
        # (B, C*M, H, W) -> (B, C, M, H, W). A shift counts half-bins of 8 bits at first: small steps at any depth.
        means = centre.unsqueeze(2) + 8 * half_bin(8) * shifts.unflatten(1, (C, M))
        log_scales = scales.unflatten(1, (C, M)) + self.initial_log_scale
        if not self.couplings:
            return LogisticMixture(logits, means, log_scales, None, bits)
        coefficients = couplings.unflatten(1, (3, M)).tanh()  # (B, 3M, H, W) -> (B, 3, M, H, W)
        # The mixture couples colours by their values; taking the centres off makes it couple their residuals.
        red, green = centre[:, 0:1], centre[:, 1:2]  # (B, 1, H, W)
        c_rg, c_rb, c_gb = coefficients.unbind(dim=1)
        means = torch.stack([means[:, 0], means[:, 1] - c_rg * red, means[:, 2] - c_rb * red - c_gb * green], dim=1)
        return LogisticMixture(logits, means, log_scales, coefficients, bits)


class CausalPixelHead(PixelBody):
    """Pixels drawn one after the other, each given the pixels before it, the reconstruction and the latent.

    Args:
        latent_channels: E of the first stage.
        image_size: height and width of the images.
        trunk: the causal network.
        bits: depth of the levels, that of the model.
        width: channels of the convolutions.
        blocks: residual blocks.
        mixtures: M.
        image_channels: C, 1 or 3.
    """

    def __init__(
        self,
        latent_channels: int,
        image_size: int,
        trunk: SnailConfig | dict[str, Any],
        bits: int = 8,
        width: int = 32,
        blocks: int = 2,
        mixtures: int = 10,
        image_channels: int = 3,
    ) -> None:
        super().__init__(latent_channels, width, blocks, image_channels)
        shape = (image_channels, image_size, image_size)
        self.pixels = CausalPixels(shape, bits, trunk, mixtures, condition=width)

    def forward(self, reconstruction: Tensor, latent: Tensor, bits: int) -> AutoregressivePixels:
        """Distribution of the levels; see `PixelBody.forward`.

        Raises:
            UserError: the model has another depth than the head.
        """
        if bits != self.pixels.bits:
            raise UserError(f"pixel_head.bits={self.pixels.bits}: the model prices {bits} bits; give both the same")
        context = self.context(reconstruction.clamp(-1.0, 1.0), latent)
        return AutoregressivePixels(self.pixels, len(context), condition=context)


class Decoded:
    """Pictures that a model shows but does not price: the pixel distribution of a model without a head."""

    def __init__(self, images: Tensor, bits: int) -> None:
        self.images, self.bits = images, bits

    def sample(self) -> Tensor:
        """(B, C, H, W) int64 levels of the decoded pictures."""
        return to_levels(self.images, self.bits)

    def log_prob(self, levels: Tensor) -> NoReturn:
        """Refuses: a decoder alone gives no probability."""
        raise UserError(
            "this latent VAE has no pixel distribution, so it prices codes only; fit one with model.network.pixel_head"
        )

    def visit(self, choose: Choose) -> NoReturn:
        """Refuses, like `log_prob`."""
        self.log_prob(self.images)
