"""What every model of the zoo offers to trainers, evaluators and the codec."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from zoo.errors import UserError, closest
from zoo.likelihood.latents import LatentPolicy, SamplePosterior, SamplePrior
from zoo.likelihood.levels import Bins, from_levels, to_levels
from zoo.likelihood.noise import Noise
from zoo.likelihood.terms import LikelihoodTerms, Objective, Priced
from zoo.likelihood.visit import Choose

Progress = Callable[[int, int], None]
"""Called with what is done and how much there is in all."""


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


def _without_noise(own: Callable[..., LikelihoodTerms]) -> Callable[..., LikelihoodTerms]:
    """A `terms` that takes no noise, as one that takes and ignores it."""

    @functools.wraps(own)
    def terms(
        self: LikelihoodModel, x: Tensor, label: Tensor | None = None, noise: Noise | None = None
    ) -> LikelihoodTerms:
        return own(self, x, label)

    return terms


class LikelihoodModel(nn.Module, ABC):
    """A network that prices, samples and trains on images; it knows nothing of trainers, files or commands.

    The attributes and the methods below `sample` say what a model offers beyond its price; their defaults are those of
    a model that offers nothing more. Nobody asks a model in any other way.

    Attributes:
        bits: depth of the levels it prices, 1 to 8. It reduces the 8-bit source pixels itself.
        image_shape: (C, H, W) of the images it was built for.
        priced: "pixels" if its terms bound the likelihood of pixels, "codes" if they price codes only.
        kind: "exact" if `terms` is the negative log-likelihood itself, "bound" if it is an upper bound of it.
        bins: how the mass of a level is computed; only normalised bins can be coded.
        steps: number of steps it samples and codes in, where that may be chosen; None without such a choice.
        default_estimator: name of the estimator behind `terms`, if there are several.
        reconstructs: whether `reconstruct` works.
        code_grids: level -> (height, width) of its codes, top first, for a model with learned priors over codes.
        compiled: names of the submodules that `torch.compile` wraps; none: the objective as a whole.
        progress: called with (done, total) while one batch is sampled, by models that sample bit by bit.
    """

    bits: int
    image_shape: tuple[int, int, int]
    priced: Priced = "pixels"
    kind: Literal["exact", "bound"] = "bound"
    bins: Bins = "normalised"
    steps: int | None = None
    default_estimator: str = ""
    reconstructs: bool = False
    code_grids: Mapping[str, tuple[int, int]] = MappingProxyType({})
    compiled: tuple[str, ...] = ()
    progress: Progress | None = None

    def __init_subclass__(cls, **named: Any) -> None:
        """Let models that draw nothing leave `noise` out of their `terms`."""
        super().__init_subclass__(**named)
        own = cls.__dict__.get("terms")
        if own is not None and "noise" not in inspect.signature(own).parameters:
            cls.terms = _without_noise(own)  # type: ignore[method-assign]

    @abstractmethod
    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Price a batch.

        Args:
            x: (B, C, H, W) uint8, 8-bit source pixels at any `bits`.
            label: (B,) int64 class labels, -1 where there is none.
            noise: where random numbers come from; None is torch's global generator. A model that draws nothing may
                leave the argument out.

        Returns:
            The terms of each image, in nats.
        """

    @abstractmethod
    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """What training minimises at optimiser step `step`, in nats per dimension; arguments as in `terms`.

        Training gives the step as a tensor on the device of the weights, so that nothing is compiled anew or waits.
        """

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images, (n, C, H, W) uint8."""

    def example(self, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """A batch as `terms` takes it, (n, C, H, W) uint8: random, or all zeros without a generator."""
        shape = (n, *self.image_shape)
        if generator is None:
            return torch.zeros(shape, dtype=torch.uint8)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    def estimators(self) -> Mapping[str, str]:
        """Names that `terms_with` takes -> what each number is; empty if there is only `terms`."""
        return {}

    def terms_with(
        self, estimator: str, x: Tensor, label: Tensor | None = None, noise: Noise | None = None
    ) -> LikelihoodTerms:
        """Price a batch by a named estimator; arguments as in `terms`.

        Raises:
            UserError: no estimator has this name.
        """
        if estimator == self.default_estimator:
            return self.terms(x, label, noise)
        known = self.estimators()
        hint = closest(estimator, known) if known else "this model has only one; leave it out"
        raise UserError(f"estimator {estimator!r} is unknown to {type(self).__name__}; {hint}")

    def reconstruct(self, x: Tensor) -> Tensor:
        """What a first stage makes of images (B, C, H, W) uint8: uint8 of the same shape.

        Raises:
            UserError: the model has no such stage (see `reconstructs`).
        """
        raise UserError(f"{type(self).__name__} has no first stage that reconstructs images")

    def recomputed_blocks(self) -> Iterable[tuple[nn.Module, str]]:
        """Blocks whose activations training may recompute: module and name of a method from tensors to tensors."""
        return ()

    def previews(self, x: Tensor | None, label: Tensor | None = None) -> Mapping[str, Tensor]:
        """Name -> picture (C, H, W) uint8 to show while it trains, from some validation images if there are any."""
        return {}


class AncestralModel(LikelihoodModel, ABC):
    """A model with latents, written as one top-down traversal that asks a policy at each site.

    Attributes:
        canvas_unit: pixels by which `render` can make a picture larger than `image_shape`; None: not at all.
    """

    canvas_unit: int | None = None

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

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Price a batch with one posterior sample per site; see `LikelihoodModel.terms`."""
        policy = SamplePosterior(noise)
        pixels = self.ancestral_pass(policy, x, len(x), label)
        distortion = -pixels.log_prob(to_levels(x, self.bits))
        return LikelihoodTerms(distortion, policy.rates, num_dims=x[0].numel(), priced=self.priced)

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """The plain negative ELBO in nats per dimension, averaged over the batch."""
        terms = self.terms(x, label)
        return Objective(loss=terms.nelbo.mean() / terms.num_dims, terms=terms)

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images from the prior at a temperature, (n, C, H, W) uint8."""
        pixels = self.ancestral_pass(SamplePrior(temperature), n=n, label=label)
        return from_levels(pixels.sample(), self.bits)

    def visit_sites(self, policy: LatentPolicy, x: Tensor, label: Tensor | None = None) -> None:
        """Ask the policy at every site, for callers that need no pixels."""
        self.ancestral_pass(policy, x, len(x), label)

    def render(
        self,
        policy: LatentPolicy,
        n: int = 1,
        label: Tensor | None = None,
        canvas: tuple[int, int] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """The pictures that latents stand for.

        Args:
            policy: where the latents come from.
            n: batch size.
            label: (n,) classes, -1 for none.
            canvas: (H, W) of a larger picture, multiples of `canvas_unit`; only without images.
            x: (B, C, H, W) uint8, if posteriors are wanted.

        Returns:
            (n, C, H, W) uint8, here a draw from the pixel distribution.

        Raises:
            UserError: a canvas for a model whose pictures have one size.
        """
        if canvas is not None:
            raise UserError(f"the pictures of {type(self).__name__} cannot grow")
        return from_levels(self.ancestral_pass(policy, x, n, label).sample(), self.bits)
