"""VQ-VAE-2 as a likelihood model: quantised autoencoder, a prior over each grid of codes, a pixel distribution.

The encoder is deterministic, so its posterior is a point mass and the rate of a level is -log p(codes): a plain
two-part code attains the bound and there is nothing to get back. The paper prices codes only; the normalised pixel
distribution around the decoder's output is our addition.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.likelihood import (
    AncestralModel,
    Categorical,
    LatentPolicy,
    LatentSite,
    LikelihoodTerms,
    LogisticMixture,
    Objective,
    PointMass,
    from_levels,
    to_levels,
)
from zoo.likelihood.mixture import head_channels, split_head
from zoo.likelihood.precision import full, outside_autocast
from zoo.models.pixelsnail import AutoregressiveCodes, AutoregressivePixels, CausalPixels, CodePrior, SnailConfig
from zoo.models.vqvae2.autoencoder import Decoder, QuantisedAutoencoder, Residual, to_pixels


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the network that predicts the pixel distribution.

    Attributes:
        mixtures: logistic components per pixel.
        channels: of the body at the bottom codes' resolution.
        residual_channels: inside its residual blocks.
        blocks: residual blocks there.
        fine_channels: at the image's resolution.
        fine_blocks: residual blocks there.
        trunk: a causal network that draws each pixel given the pixels before it, or None to draw all of them
            independently around the reconstruction.
    """

    mixtures: int = 5
    channels: int = 128
    residual_channels: int = 64
    blocks: int = 2
    fine_channels: int = 32
    fine_blocks: int = 2
    trunk: SnailConfig | None = None


class PixelDecoder(nn.Module):
    """Pixel distribution from a second decoder of the same codes.

    A mixture of logistics centred on the reconstruction or, with a trunk, pixels drawn one after the other.

    Args:
        inputs: channels of the joined code vectors.
        image_shape: (C, H, W), C is 1 or 3.
        stride: from the bottom codes to the image.
        config: shape.
        bits: depth of the levels.
    """

    def __init__(
        self, inputs: int, image_shape: tuple[int, int, int], stride: int, config: HeadConfig, bits: int
    ) -> None:
        super().__init__()
        self.planes, self.mixtures, self.bits = image_shape[0], config.mixtures, bits
        body = (config.channels, config.residual_channels, config.blocks)
        fine = config.fine_channels
        self.body = Decoder(inputs, fine, *body, stride, "identity")
        self.join = nn.Conv2d(fine + self.planes, fine, 3, padding=1)
        self.fine = nn.Sequential(*(Residual(fine, fine) for _ in range(config.fine_blocks)), nn.ReLU())
        if config.trunk is not None:
            self.pixels: CausalPixels | None = CausalPixels(
                image_shape, bits, config.trunk, config.mixtures, condition=fine
            )
            return
        self.pixels = None
        self.final = nn.Conv2d(fine, head_channels(self.planes, config.mixtures), 3, padding=1)
        with torch.no_grad():
            self.final.weight.mul_(0.1)
            if self.final.bias is not None:
                self.final.bias.zero_()

    def forward(self, joined: Tensor, reconstruction: Tensor) -> LogisticMixture | AutoregressivePixels:
        """The pixel distribution of joined code vectors (B, inputs, h, w) around a reconstruction (B, C, H, W)."""
        context = self.fine(self.join(torch.cat([self.body(joined), reconstruction], 1)))  # (B, fine, H, W)
        if self.pixels is not None:
            return AutoregressivePixels(self.pixels, len(context), condition=context)
        return self._around(reconstruction, outside_autocast(self.final, context))

    def _around(self, reconstruction: Tensor, out: Tensor) -> LogisticMixture:
        """The mixture centred on a reconstruction (B, C, H, W) that an output (B, M + 3 C M or 3 M, H, W) describes."""
        logits, means, log_scales, coefficients = split_head(out, self.planes)
        means = full(reconstruction).unsqueeze(2) + means  # the head corrects the reconstruction
        return LogisticMixture(logits, means, log_scales - 3.0, coefficients, self.bits)


class VQVAE2(AncestralModel):
    """The whole model. The autoencoder is frozen here: it is trained on its own, before the priors.

    Args:
        autoencoder: first stage.
        priors: one per level, top first; none means uniform priors.
        head: shape of the pixel distribution's network; without it, one logistic per colour around the decoder output.
        output: what `sample` returns: the decoder's `reconstruction` of drawn codes, as in the paper, or a `sample` of
            the pixel distribution.

    Example:
        >>> stage1 = QuantisedAutoencoder([3, 8, 8], [2, 2], channels=8, residual_channels=4, num_codes=5, code_dim=3)
        >>> VQVAE2(stage1).sample(2).shape
        torch.Size([2, 3, 8, 8])
    """

    reconstructs = True

    def __init__(
        self,
        autoencoder: QuantisedAutoencoder,
        priors: list[CodePrior] | None = None,
        head: HeadConfig | dict[str, Any] | None = None,
        output: Literal["reconstruction", "sample"] = "reconstruction",
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.image_shape, self.bits, self.output = autoencoder.image_shape, autoencoder.bits, output
        levels = len(autoencoder.names)
        if priors and len(priors) != levels:
            raise UserError(f"{len(priors)} priors for {levels} levels; give one per level, top first")
        for prior, grid in zip(priors or [], autoencoder.grids, strict=False):
            if prior.grid != grid or prior.num_codes != autoencoder.num_codes:
                raise UserError(f"prior {prior.name!r} is for {prior.grid} codes, the autoencoder has {grid}")
        self.priors = nn.ModuleList(priors or [])
        for prior in priors or []:
            prior.progress = self._show
        if priors:
            self.code_grids = dict(zip(autoencoder.names, autoencoder.grids, strict=True))
        self.head = None
        if head is not None:
            config = head if isinstance(head, HeadConfig) else HeadConfig(**head)
            inputs = levels * autoencoder.code_dim
            self.head = PixelDecoder(inputs, self.image_shape, autoencoder.strides[0], config, self.bits)

    def train(self, mode: bool = True) -> "VQVAE2":
        """Set the mode; the autoencoder stays in evaluation mode, so that its codebooks do not move."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def _show(self, done: int, total: int) -> None:
        """Hand on what a prior reports after every finished row of codes."""
        if self.progress is not None:
            self.progress(done, total)

    def prior(
        self, level: int, batch: int, upper: list[Tensor], label: Tensor | None = None
    ) -> AutoregressiveCodes | Categorical:
        """p(codes of a level | codes above, label)."""
        if self.priors:
            return cast(CodePrior, self.priors[level]).distribution(batch, upper, label)
        model = self.autoencoder
        return Categorical(model.absolute_error.new_zeros(1).expand(batch, *model.grids[level], model.num_codes))

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> LogisticMixture | AutoregressivePixels:
        """One site of codes per level, top first, then the pixel distribution around the decoder output."""
        codes = self.draw_codes(policy, x, n, label)
        return self.pixels(codes)

    def draw_codes(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> list[Tensor]:
        """Visit the sites; (B, H_l, W_l) codes of every level, top first."""
        found = None
        if x is not None:
            with torch.no_grad():
                found = self.autoencoder.encode(self.autoencoder.normalise(x)).codes
        batch = n if x is None else len(x)
        codes: list[Tensor] = []
        for level, name in enumerate(self.autoencoder.names):
            posterior = None if found is None else PointMass(found[level])
            prior = self.prior(level, batch, list(codes), label)
            codes.append(policy(LatentSite(name, level, prior, posterior)))
        return codes

    def pixels(self, codes: list[Tensor]) -> LogisticMixture | AutoregressivePixels:
        """p(x | codes)."""
        with torch.no_grad():
            joined = self.autoencoder.joined(self.autoencoder.lookup(codes))
            reconstruction = self.autoencoder.decoder(joined)
        if self.head is None:
            return self.autoencoder.pixels(reconstruction)
        result: LogisticMixture | AutoregressivePixels = self.head(joined, reconstruction)
        return result

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """The negative ELBO in nats per dimension; trains priors and pixel distribution, whichever there are."""
        terms: LikelihoodTerms = self.terms(x, label)
        codes = {
            f"nats_per_code/{name}": (terms.rates[name].mean() / (grid[0] * grid[1])).detach()
            for name, grid in zip(self.autoencoder.names, self.autoencoder.grids, strict=True)
        }
        return Objective(terms.nelbo.mean() / terms.num_dims, terms, codes)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images (n, C, H, W) uint8; the temperature divides the logits of the codes."""

        def policy(site: LatentSite) -> Tensor:
            prior = site.prior
            return (prior.scaled(temperature) if isinstance(prior, AutoregressiveCodes) else prior).sample()

        codes = self.draw_codes(policy, n=n, label=label)
        if self.output == "sample":
            return from_levels(self.pixels(codes).sample(), self.bits)
        drawn = to_pixels(self.autoencoder.decode(self.autoencoder.lookup(codes)))
        return from_levels(to_levels(drawn, self.bits), self.bits)  # no deeper than what is priced

    @torch.no_grad()
    def reconstruct(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Decoder output (B, C, H, W) uint8 from the codes of the upper `levels` alone (paper, figure 3)."""
        return self.autoencoder.reconstruct(x, levels)

    @torch.no_grad()
    def mse(self, x: Tensor) -> Tensor:
        """(B,) mean squared error of the reconstruction, pixels on [-1, 1]."""
        return self.autoencoder.mse(x)
