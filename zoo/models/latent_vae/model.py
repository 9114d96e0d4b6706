"""Latent VAE (Luhman & Luhman 2023): a hierarchical VAE over the latents of a frozen autoencoder.

What the zoo adds is the last two steps of its account of likelihood. With y the normalised latent of an image, the
sites are the groups of the hierarchy, then the latent itself: posterior N(y, sigma_q^2), prior p(y | z). The KL of that
site is the paper's reconstruction term. Around the decoder's output stands a normalised pixel distribution, so that

    -log P(x) <= -log P(x | decode(y')) + KL(N(y, sigma_q^2) || p(y | z)) + sum of the groups' KLs.

Letters: B batch, C channels, E latent channels, h x w latent size, H x W image size, D = E h w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.errors import UserError, closest
from zoo.likelihood.first_stage import FirstStage
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite, SamplePosterior, SamplePrior
from zoo.likelihood.levels import check_bits, from_levels, level_values, to_levels
from zoo.likelihood.manipulation import GuidedPrior, Named
from zoo.likelihood.model import AncestralModel, PixelDistribution
from zoo.likelihood.noise import Noise
from zoo.likelihood.terms import LikelihoodTerms, Objective
from zoo.models.latent_vae.autoencoder import to_uint8
from zoo.models.latent_vae.balance import RateSchedule, SpectralPenalty, balance_weights
from zoo.models.latent_vae.hierarchy import HierarchicalVAE
from zoo.models.latent_vae.pixels import Decoded, PixelBody

LATENT = "latent"
"""Name of the last site, the first stage's latent itself."""
CLIP = 4.0
LABEL_DROPOUT = 0.1


class PixelSpace(FirstStage):
    """No first stage: the latent is the image (the pixel-space models of Tables 1 and 5).

    Args:
        image_channels: C.
    """

    def __init__(self, image_channels: int = 3) -> None:
        super().__init__()
        self.image_channels, self.latent_channels, self.factor = image_channels, image_channels, 1

    def latent(self, images: Tensor) -> Tensor:
        """The image itself."""
        return images

    def decode(self, latent: Tensor) -> Tensor:
        """The latent itself."""
        return latent

    def reconstruct(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x


class LatentVAE(AncestralModel):
    """Hierarchical VAE over a first stage's latents, with an optional pixel distribution around its decoder.

    Args:
        first_stage: frozen autoencoder: `KLAutoencoder`, `VQAutoencoder` or `PixelSpace`.
        hierarchy: the network over latents.
        image_size: side of the images; `hierarchy.resolution` times the factor of the first stage.
        pixel_head: pixel distribution around the decoder; without it the model prices codes only, as in the paper.
        shift: the latent h becomes y = clip((h - shift) / scale, -4, 4). None: the mean of the first training batch.
        scale: see `shift`; None: the standard deviation of the first training batch.
        sigma_q: standard deviation of the noise that y is priced under. None: what the first stage's own encoder says,
            an option of ours for first stages that were trained with a KL term worth its name.
        schedule: shares of the rate that layers are meant to carry.
        spectral_weight: weight of the spectral penalty (w_SR), for a loss in nats per image.
        bits: depth of the pixels; the first stage sees no more.
        train: what the objective trains: the hierarchy, the pixel head, or both (they share no gradient).
        price: "codes" makes `terms` give the length of the latent code although there is a pixel head.

    Example:
        >>> from zoo.models.latent_vae.pixels import PixelHead
        >>> vae = HierarchicalVAE(8, 3, 16, [1, 1, 1], [2, 2, 2], [2, 2, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0])
        >>> model = LatentVAE(PixelSpace(), vae, image_size=8, pixel_head=PixelHead(3, width=8, blocks=1))
        >>> model.terms(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)).bits_per_dim().shape
        torch.Size([5])
    """

    reconstructs = True

    def __init__(
        self,
        first_stage: FirstStage,
        hierarchy: HierarchicalVAE,
        image_size: int,
        pixel_head: PixelBody | None = None,
        shift: float | None = 0.0,
        scale: float | None = 1.0,
        sigma_q: float | None = 0.07,
        schedule: RateSchedule | None = None,
        spectral_weight: float = 0.1,
        bits: int = 8,
        train: Literal["hierarchy", "pixels", "both"] = "both",
        price: Literal["pixels", "codes"] = "pixels",
    ) -> None:
        super().__init__()
        _check_parts(first_stage, hierarchy, image_size)
        if sigma_q is None and not first_stage.gaussian:
            raise UserError("sigma_q: null needs a first stage with a Gaussian encoder (KLAutoencoder); give a number")
        if train == "pixels" and pixel_head is None:
            raise UserError("train: 'pixels' needs a pixel_head; add one or train 'hierarchy'")
        self.bits = check_bits(bits)
        self.image_shape = (first_stage.image_channels, image_size, image_size)
        self.priced = "codes" if pixel_head is None or price == "codes" else "pixels"
        self.first_stage, self.hierarchy, self.pixel_head = first_stage, hierarchy, pixel_head
        self.canvas_unit = image_size // 4  # one column of the 4x4 level
        self.sigma_q, self.spectral_weight, self.trained = sigma_q, spectral_weight, train
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(math.nan if shift is None else shift))
        self.register_buffer("scale", torch.tensor(math.nan if scale is None else scale))
        self._calibrated = False
        self.register_load_state_dict_post_hook(_forget_calibration)  # type: ignore[no-untyped-call]
        counts = [sum(layer.resolution == side for layer in hierarchy.layers) for side in hierarchy.sides]
        self._shares = (schedule or RateSchedule()).shares(counts)
        self._spectral = SpectralPenalty(hierarchy.layers)
        first_stage.requires_grad_(False)
        hierarchy.requires_grad_(train != "pixels")
        if pixel_head is not None:
            pixel_head.requires_grad_(train != "hierarchy")

    # -- latents ------------------------------------------------------------------------------------------------------

    @property
    def latent_dims(self) -> int:
        """D, numbers in a latent."""
        return self.hierarchy.channels * self.hierarchy.resolution**2

    @torch.no_grad()
    def latent_posterior(self, x: Tensor) -> DiagonalGaussian:
        """(B, C, H, W) uint8 -> N(y, sigma_q^2) over (B, E, h, w), y clipped to +-4."""
        shift, scale = self.normalisation()
        if self.sigma_q is not None:
            y = ((self.first_stage.latent(self.values(x)) - shift) / scale).clamp(-CLIP, CLIP)
            return DiagonalGaussian(y, torch.full_like(y, math.log(self.sigma_q)))
        h = self.first_stage.encode(self.values(x))
        return DiagonalGaussian(((h.mean - shift) / scale).clamp(-CLIP, CLIP), h.log_std - scale.log())

    def values(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> what the first stage sees: the levels on [-1, 1], no deeper than `bits`."""
        if x.shape[1] != self.image_shape[0]:
            raise ValueError(f"expected images with {self.image_shape[0]} channels, got shape {tuple(x.shape)}")
        return level_values(to_levels(x, self.bits), self.bits)

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Shift and scale; 0 and 1 until they have been estimated."""
        return self.shift.nan_to_num(0.0), self.scale.nan_to_num(1.0)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Estimate the shift and scale that were not given from the latents of a batch."""
        if self._calibrated:  # asking the device at every step would make it wait
            return
        if not bool(self.shift.isnan() | self.scale.isnan()):
            self._calibrated = True  # known only now: a skipped first update takes the estimate back
        else:
            h = self.first_stage.latent(self.values(x))
            self.shift.copy_(torch.where(self.shift.isnan(), h.mean(), self.shift))
            self.scale.copy_(torch.where(self.scale.isnan(), h.std(), self.scale))

    def decode(self, y: Tensor) -> Tensor:
        """Normalised latent (B, E, h, w) -> decoder output (B, C, H, W), not clamped."""
        shift, scale = self.normalisation()
        return self.first_stage.decode(y * scale + shift)

    def images(self, y: Tensor) -> Tensor:
        """Normalised latent (B, E, h, w) -> uint8 pictures (B, C, H, W) that lie on the model's levels."""
        return from_levels(to_levels(to_uint8(self.decode(y)), self.bits), self.bits)

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """See `LikelihoodModel`."""
        yield from self.hierarchy.recomputed_blocks()

    # -- the traversal ------------------------------------------------------------------------------------------------

    def latent_pass(
        self,
        policy: LatentPolicy,
        x: Tensor | None = None,
        n: int = 1,
        label: Tensor | None = None,
        prior_label: Tensor | None = None,
        canvas: tuple[int, int] | None = None,
    ) -> Tensor:
        """Visit every site; the value of the last one, a normalised latent (B, E, h, w).

        Args:
            policy: where latents come from.
            x: (B, C, H, W) uint8, if posteriors are wanted.
            n: batch size without images.
            label: (B,) classes, -1 for none.
            prior_label: what priors see instead.
            canvas: (H, W) of a larger picture, multiples of `canvas_unit`; only without images.
        """
        posterior = None if x is None else self.latent_posterior(x)
        y = None if posterior is None else posterior.mean
        factor = self.first_stage.factor
        size = None if canvas is None else (canvas[0] // factor, canvas[1] // factor)
        prior = self.hierarchy.ancestral_pass(policy, y, n, label, prior_label, size=size)
        return policy(LatentSite(LATENT, len(self.hierarchy.layers), prior, posterior))

    def visit_sites(self, policy: LatentPolicy, x: Tensor, label: Tensor | None = None) -> None:
        """See `AncestralModel`."""
        self.latent_pass(policy, x, label=label)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> PixelDistribution:
        """Visit every group, then the latent, and return the pixel distribution around what it decodes to."""
        return self.pixels(self.latent_pass(policy, x, n, label))

    def pixels(self, y: Tensor) -> PixelDistribution:
        """Pixel distribution given a normalised latent (B, E, h, w)."""
        if self.pixel_head is None:
            return Decoded(self.images(y), self.bits)
        result: PixelDistribution = self.pixel_head(self.decode(y), y, self.bits)
        return result

    # -- price and training -------------------------------------------------------------------------------------------

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Price of the pixels, or of the latent code if there is no pixel head; see `LikelihoodModel.terms`."""
        return super().terms(x, label, noise) if self.priced == "pixels" else self.code_terms(x, label, noise)

    def estimators(self) -> dict[str, str]:
        """Which prices there are; `codes` is no likelihood of pixels."""
        names = {"codes": "length of the latent code at precision sigma_q"}
        return names if self.pixel_head is None else {"pixels": "bound on the pixels", **names}

    def terms_with(
        self, estimator: str, x: Tensor, label: Tensor | None = None, noise: Noise | None = None
    ) -> LikelihoodTerms:
        """Price a batch by name; see `estimators`.

        Raises:
            UserError: no such price.
        """
        if estimator not in self.estimators():
            raise UserError(f"estimator {estimator!r} is unknown; {closest(estimator, self.estimators())}")
        return super().terms(x, label, noise) if estimator == "pixels" else self.code_terms(x, label, noise)

    def code_terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Length of the latent code: nats to send y with precision sigma_q. A rate, not a likelihood of pixels."""
        policy = SamplePosterior(noise)
        self.latent_pass(policy, x, label=label)
        return self._code_terms(policy)

    def _code_terms(self, policy: SamplePosterior) -> LikelihoodTerms:
        nothing = torch.zeros_like(policy.rates[LATENT])
        return LikelihoodTerms(nothing, policy.rates, num_dims=self.latent_dims, priced="codes")

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """Balanced KLs and the KL-form reconstruction in nats per latent dimension; plus the pixels' price per pixel.

        Section 3.3 and 3.4 of the paper. Labels of the priors are dropped with probability 0.1.
        """
        if self.training:
            self.calibrate(x)
        policy = SamplePosterior()
        prior_label = label
        if label is not None and self.hierarchy.num_classes:
            prior_label = torch.where(torch.rand(len(x), device=x.device) < LABEL_DROPOUT, -1, label)
        with nullcontext() if self.trained != "pixels" else torch.no_grad():
            y = self.latent_pass(policy, x, label=label, prior_label=prior_label)
        loss = torch.zeros((), device=x.device)
        parts: dict[str, Tensor] = {}
        if self.trained != "pixels":
            loss, parts = self._hierarchy_loss(policy)
        terms = self._code_terms(policy)
        if self.trained != "hierarchy" and self.pixel_head is not None:
            distortion = -self.pixels(y.detach()).log_prob(to_levels(x, self.bits))
            loss = loss + distortion.mean() / x[0].numel()
            terms = LikelihoodTerms(distortion, policy.rates, num_dims=x[0].numel())
        return Objective(loss, terms, parts)

    def _hierarchy_loss(self, policy: SamplePosterior) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction + balanced KLs + spectral penalty, in nats per latent dimension."""
        names = [layer.name for layer in self.hierarchy.layers]
        kls = torch.stack([policy.rates[name] for name in names], dim=1)  # (B, L)
        weights = torch.ones_like(kls) if self._shares is None else balance_weights(kls, self._shares)
        reconstruction = policy.rates[LATENT].mean()
        penalty = self._spectral() if self.spectral_weight > 0 else kls.new_zeros(())
        loss = (reconstruction + (weights * kls).sum(dim=1).mean() + self.spectral_weight * penalty) / self.latent_dims
        parts = {
            "reconstruction": reconstruction / self.latent_dims,
            "latent_kl": kls.sum(dim=1).mean() / self.latent_dims,
            "spectral": penalty,
            "kl_weight/largest": weights.max(),
            "kl_weight/smallest": weights.min(),
        }
        return loss, {name: part.detach() for name, part in parts.items()}

    # -- pictures -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def render(
        self,
        policy: LatentPolicy,
        n: int = 1,
        label: Tensor | None = None,
        canvas: tuple[int, int] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Pictures as the paper makes them: the decoded mean of p(y | z), without noise of latent or pixels.

        Arguments as `AncestralModel.render`.
        """
        mean_at_end = Named({LATENT: SamplePrior(0.0)}, policy)
        return self.images(self.latent_pass(mean_at_end, x, n, label, canvas=canvas))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the first stage makes of images (B, C, H, W) uint8, without the hierarchy: uint8 of the same shape."""
        return self.images(self.latent_posterior(x).mean)

    def mse(self, x: Tensor) -> Tensor:
        """(B,) mean squared error of the first stage's reconstruction, pixels on [-1, 1]."""
        with torch.no_grad():
            rebuilt = self.decode(self.latent_posterior(x).mean).clamp(-1.0, 1.0)
            return (rebuilt - self.values(x)).square().mean(dim=(1, 2, 3))

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        label: Tensor | None = None,
        guidance_mean: float | Sequence[float] = 0.0,
        guidance_std: float | Sequence[float] = 0.0,
    ) -> Tensor:
        """Draw pictures, guided by a label if the weights are not zero (Luhman & Luhman 2023, equation 2).

        Args:
            n: number of pictures.
            temperature: multiplies the standard deviation of every group.
            label: (n,) classes.
            guidance_mean: w_mean; a number (not applied at 1x1) or one per level, lowest resolution first.
            guidance_std: w_std.

        Raises:
            UserError: a label that the model does not know; guidance of a model that has no labels, or without one.
        """
        classes = self.hierarchy.num_classes
        if label is not None and classes and bool((label >= classes).any()):
            raise UserError(f"label {int(label.max())}: this model knows the classes 0 to {classes - 1}")
        if not _any(guidance_mean) and not _any(guidance_std):
            return self.render(SamplePrior(temperature), n, label)
        self._check_guidance(label)
        assert label is not None
        none = torch.full_like(label, -1)
        policy = Named({LATENT: SamplePrior(0.0)}, GuidedPrior(guidance_mean, guidance_std, temperature))
        with torch.no_grad():
            y = self.latent_pass(policy, n=2 * n, label=torch.cat([label, none]))  # (2n, E, h, w)
            return self.images(y[:n])

    def _check_guidance(self, label: Tensor | None) -> None:
        if not self.hierarchy.num_classes or not self.hierarchy.hierarchical_prior:
            raise UserError(
                "guidance: this model's prior does not depend on a label; use a class-conditional one with a "
                "hierarchical prior, or leave the guidance weights at 0"
            )
        if label is None or bool((label < 0).any()):
            raise UserError("guidance: needs a label for every image; give --label")


def _forget_calibration(model: nn.Module, _: object) -> None:
    """Loaded weights bring a shift and a scale of their own, or none."""
    model._calibrated = False  # type: ignore[assignment]


def _check_parts(first_stage: FirstStage, hierarchy: HierarchicalVAE, image_size: int) -> None:
    """Sizes and channels of the two stages must agree."""
    if hierarchy.resolution * first_stage.factor != image_size:
        raise UserError(
            f"image_size: {image_size} is not the hierarchy's resolution {hierarchy.resolution} times the first "
            f"stage's factor {first_stage.factor}; change one of them"
        )
    if hierarchy.channels != first_stage.latent_channels:
        raise UserError(
            f"hierarchy.channels: {hierarchy.channels}, but the first stage's latent has "
            f"{first_stage.latent_channels} channels; make them equal"
        )


def _any(weight: float | Sequence[float]) -> bool:
    return any(weight) if isinstance(weight, Sequence) else weight != 0
