"""What every model of the zoo offers to trainers, evaluators and the codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from zoo.likelihood.latents import LatentPolicy, SamplePosterior, SamplePrior
from zoo.likelihood.levels import from_levels, to_levels
from zoo.likelihood.terms import LikelihoodTerms, Objective, Priced
from zoo.likelihood.visit import Choose


@runtime_checkable
class PixelDistribution(Protocol):
    """p(x given latents) over integer levels: normalised, samplable, codable."""

    def log_prob(self, levels: Tensor) -> Tensor:
        """(B,) nats of levels (B, C, H, W)."""
        ...

    def sample(self) -> Tensor:
        """(B, C, H, W) int64 levels."""
        ...

    def visit(self, choose: Choose) -> Tensor:
        """Visit every level with its table; see `zoo.likelihood.visit`."""
        ...


class LikelihoodModel(nn.Module, ABC):
    """A network that prices, samples and trains on images; it knows nothing of trainers, files or commands.

    Attributes:
        bits: depth of the levels it prices, 1 to 8. It reduces the 8-bit source pixels itself.
        image_shape: (C, H, W) of the images it was built for.
        priced: "pixels" if its terms bound the likelihood of pixels, "codes" if they price codes only.
    """

    bits: int
    image_shape: tuple[int, int, int]
    priced: Priced = "pixels"

    @abstractmethod
    def terms(self, x: Tensor, label: Tensor | None = None) -> LikelihoodTerms:
        """Price a batch.

        Args:
            x: (B, C, H, W) uint8, 8-bit source pixels at any `bits`.
            label: (B,) int64 class labels, -1 where there is none.

        Returns:
            The terms of each image, in nats.
        """

    @abstractmethod
    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """What training minimises at optimiser step `step`, in nats per dimension; arguments as in `terms`."""

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images, (n, C, H, W) uint8."""


class AncestralModel(LikelihoodModel, ABC):
    """A model with latents, written as one top-down traversal that asks a policy at each site."""

    @abstractmethod
    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> PixelDistribution:
        """Visit every site from the top and return the pixel distribution at the bottom.

        Args:
            policy: where the latents come from.
            x: (B, C, H, W) uint8 images, if posteriors are wanted; then `n` is ignored.
            n: batch size when there is no image.
            label: (B,) int64 class labels, -1 where there is none.
        """

    def terms(self, x: Tensor, label: Tensor | None = None) -> LikelihoodTerms:
        """Price a batch with one posterior sample per site; see `LikelihoodModel.terms`."""
        policy = SamplePosterior()
        pixels = self.ancestral_pass(policy, x, len(x), label)
        distortion = -pixels.log_prob(to_levels(x, self.bits))
        return LikelihoodTerms(distortion, policy.rates, num_dims=x[0].numel(), priced=self.priced)

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """The plain negative ELBO in nats per dimension, averaged over the batch."""
        terms = self.terms(x, label)
        return Objective(loss=terms.nelbo.mean() / terms.num_dims, terms=terms)

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images from the prior at a temperature, (n, C, H, W) uint8."""
        pixels = self.ancestral_pass(SamplePrior(temperature), n=n, label=label)
        return from_levels(pixels.sample(), self.bits)
