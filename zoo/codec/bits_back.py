"""One batch of images through the one traversal, onto the stack and back.

Bits-back coding (Townsend et al. 2019; with a top-down hierarchy, Townsend et al. 2020): the encoder *pops* every
latent under its posterior, pushes the pixels, then pushes the latents under their priors, last site first. The decoder
pops in the mirrored order and, once it has the image, gives the posterior bits back. The net cost is the negative ELBO.

Without bits to pop (one image alone) latents are instead *rounded* to a grid about as wide as the posterior, which
costs a quarter of a bit per coded latent over the ELBO and needs no initial bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.codec.grid import GridSite, Profile, pop_posterior, push_posterior
from zoo.codec.stack import Floats, Stack, StackError, Symbols
from zoo.codec.symbols import Popper, Recorder, Region
from zoo.likelihood import (
    AncestralModel,
    DiagonalGaussian,
    LatentSite,
    Law,
    PointMass,
    Remembering,
    SamplePosterior,
    as_law,
    from_levels,
    site_kl,
    to_levels,
)
from zoo.likelihood.latents import gaussian, gaussian_free

_ROOM = 1 << 28  # bytes of states that a decoder keeps for its second pass
_SITES_PER_BATCH = 1 << 20  # counters of the shared generator reserved for a batch


@dataclass(frozen=True)
class Plan:
    """What both sides agree on for a whole stream.

    Attributes:
        profile: steps and seeded channels of the Gaussian sites.
        chained: pop latents from the stack (bits-back), or round them.
        seed: of the shared generator.
    """

    profile: Profile
    chained: bool
    seed: int = 0


class _Grids:
    """The grids of one batch, site by site."""

    def __init__(self, plan: Plan, batch: int) -> None:
        self.plan, self.batch = plan, batch
        self.visited = self.channels = 0

    def next(self, site: LatentSite) -> GridSite:
        """The grid of the next Gaussian site.

        Raises:
            StackError: if the profile was made for another model.
        """
        prior = gaussian(site.prior)
        codes = self.plan.profile.site(self.channels, prior.mean.shape[1])
        counter = self.batch * _SITES_PER_BATCH + self.visited
        self.visited, self.channels = self.visited + 1, self.channels + len(codes)
        return GridSite(prior, codes, self.plan.seed, counter)


class _Encode:
    """Policy of the encoder: takes every latent from the stack (or by rounding) and remembers what to push."""

    def __init__(self, plan: Plan, batch: int, stack: Stack | None) -> None:
        self.plan, self.stack, self.grids = plan, stack, _Grids(plan, batch)
        self.pushes: list[Callable[[Stack], None]] = []
        self.rate = 0.0
        self.latent_bits = 0.0

    def __call__(self, site: LatentSite) -> Tensor:
        if isinstance(site.posterior, PointMass):
            return self._codes(site, site.posterior.codes)
        if site.posterior is None:
            raise StackError(f"site {site.name!r} has no posterior")
        grid = self.grids.next(site)
        kl = site.posterior.kl(gaussian(site.prior))[:, torch.from_numpy(grid.active)]
        self.rate += float(kl.sum(dtype=torch.float64))
        mean, std = grid.posterior_params(site.posterior)
        if self.plan.chained and self.stack is not None:
            k = pop_posterior(self.stack, mean, std, grid.reach)
        else:
            k = np.rint(mean).astype(np.int32)
        prior_mean, prior_std = grid.prior_params()
        self.latent_bits += _binned_bits(k, prior_std)
        self.pushes.append(lambda stack: stack.push_gaussian(k, grid.reach, prior_mean, prior_std))
        return grid.value(k)

    def _codes(self, site: LatentSite, codes: Tensor) -> Tensor:
        recorder = Recorder(codes, Region(tuple(codes.shape)))
        gaussian_free(site.prior).visit(recorder)
        self.rate += recorder.nats
        self.latent_bits += recorder.nats / np.log(2.0)
        self.pushes.append(recorder.push)
        return codes


def _binned_bits(k: Symbols, std: Floats) -> float:
    """Bits of integers under zero-mean Gaussians binned to the integers."""
    position = torch.from_numpy(np.abs(k).astype(np.float64))
    scale = torch.from_numpy(std)
    # In the upper tail both edges are turned to negative arguments, where the distribution function is accurate.
    mass = torch.special.ndtr((0.5 - position) / scale) - torch.special.ndtr((-0.5 - position) / scale)
    return float(-torch.log2(mass.clamp_min(2.0**-24)).sum())


class _Decode(Remembering):
    """Policy of the decoder: pops every latent under its prior, before the image is known."""

    def __init__(self, plan: Plan, batch: int, stack: Stack, again: bool) -> None:
        super().__init__(_ROOM if again else 0)
        self.stack, self.grids = stack, _Grids(plan, batch)
        self.latents: list[Tensor] = []
        self.coded: list[tuple[GridSite, Symbols] | None] = []

    def __call__(self, site: LatentSite) -> Tensor:
        if isinstance(site.prior, DiagonalGaussian):
            grid = self.grids.next(site)
            k = self.stack.pop_gaussian(grid.reach, *grid.prior_params())
            self.latents.append(grid.value(k))
            self.coded.append((grid, k))
        else:
            self.latents.append(site.prior.visit(_PopCodes(self.stack)))
            self.coded.append(None)
        return self.latents[-1]


class _PopCodes:
    """A `choose` that pops codes, whatever the shape of their grid."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def __call__(self, index: object, law: Law | Tensor) -> Tensor:
        law = as_law(law)
        rows = np.ascontiguousarray(law.probs().reshape(-1, law.levels).to("cpu", torch.float64).numpy())
        return torch.from_numpy(self.stack.pop_table(rows).astype(np.int64)).reshape(law.shape)


class _Posteriors(Remembering):
    """The decoded latents, while the posterior of every site is collected."""

    def __init__(self, decoded: _Decode) -> None:
        super().__init__(0)
        self.latents, self.kept = decoded.latents, decoded.kept
        self.posteriors: list[DiagonalGaussian | PointMass | None] = []

    def __call__(self, site: LatentSite) -> Tensor:
        self.posteriors.append(site.posterior)
        return self.latents[len(self.posteriors) - 1]


@dataclass(frozen=True)
class BatchCost:
    """What a batch costs, in bits, real pixels only.

    Attributes:
        bound: KL of the coded latents plus -log p(x | z) at the coded latents.
        direct: the latents' full price under the prior plus -log p(x | z), what rounding pays.
    """

    bound: float
    direct: float


def encode_batch(
    model: AncestralModel, x: Tensor, sizes: list[tuple[int, int]], plan: Plan, batch: int, stack: Stack | None
) -> BatchCost:
    """Push a batch of images.

    Args:
        model: in eval mode.
        x: (B, C, H, W) uint8, padding repeating the border (`zoo.codec.tiles`).
        sizes: real height and width of every tile.
        plan: what both sides agree on.
        batch: number of the batch in the stream.
        stack: where to push; None only prices the batch.

    Returns:
        The cost in bits.
    """
    policy = _Encode(plan, batch, stack)
    pixels = model.ancestral_pass(policy, x, len(x))
    recorder = Recorder(to_levels(x, model.bits), Region(tuple(x.shape), sizes))
    pixels.visit(recorder)
    if stack is not None:
        recorder.push(stack)
        for push in reversed(policy.pushes):
            push(stack)
    pixel_bits = recorder.nats / np.log(2.0)
    return BatchCost(pixel_bits + policy.rate / np.log(2.0), pixel_bits + policy.latent_bits)


def decode_batch(model: AncestralModel, sizes: list[tuple[int, int]], plan: Plan, batch: int, stack: Stack) -> Tensor:
    """Pop a batch pushed by `encode_batch` with the same arguments; returns (B, C, H, W) uint8, padding included.

    The posterior bits of batch 0 were borrowed from the seeded supply, so nobody needs them back.
    """
    again = batch > 0 and plan.chained
    policy = _Decode(plan, batch, stack, again)
    pixels = model.ancestral_pass(policy, None, len(sizes))
    shape = (len(sizes), *model.image_shape)
    x = from_levels(pixels.visit(Popper(stack, Region(shape, sizes))), model.bits)
    if again and any(coded is not None for coded in policy.coded):
        known = _Posteriors(policy)
        model.ancestral_pass(known, x, len(x))
        for coded, posterior in zip(reversed(policy.coded), reversed(known.posteriors), strict=True):
            if coded is not None and isinstance(posterior, DiagonalGaussian):
                grid, k = coded
                push_posterior(stack, k, *grid.posterior_params(posterior), grid.reach)
    return x


class SiteStatistics(SamplePosterior):
    """A posterior sample at each site, with what the profile needs of every Gaussian one.

    Attributes:
        latents: per Gaussian site, latents of one channel of one image.
        kl: per Gaussian site, (Z,) mean KL of one latent of each channel, nats.
        log_ratio: per Gaussian site, (Z,) mean of log(std_q / std_p).
    """

    def __init__(self) -> None:
        super().__init__()
        self.latents: list[int] = []
        self.kl: list[Floats] = []
        self.log_ratio: list[Floats] = []

    def __call__(self, site: LatentSite) -> Tensor:
        """Measure, then sample."""
        if isinstance(site.posterior, DiagonalGaussian):
            prior = gaussian(site.prior)
            self.latents.append(prior.mean[0, 0].numel())
            self.kl.append(_per_channel(site.posterior.kl(prior)))
            self.log_ratio.append(_per_channel(site.posterior.log_std - prior.log_std))
        self.rates[site.name] = site_kl(site)
        return site.posterior.codes if isinstance(site.posterior, PointMass) else super().__call__(site)


def _per_channel(values: Tensor) -> Floats:
    """Mean over everything but the channels: (B, Z, ...) -> (Z,)."""
    return np.asarray(values.double().transpose(0, 1).flatten(1).mean(1).cpu().numpy())
