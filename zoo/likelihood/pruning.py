"""Posterior pruning: how few latents carry the information (Hazami et al. 2022, section 7).

Measure the mean KL of every latent over a dataset, keep the share that carries most, and let the prior speak at all the
others. It works for any model with Gaussian sites, because a pruned model is the same model under another policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentSite, per_image
from zoo.likelihood.levels import to_levels
from zoo.likelihood.model import AncestralModel
from zoo.likelihood.noise import GLOBAL_NOISE, Noise
from zoo.likelihood.terms import LikelihoodTerms

Granularity = Literal["dimension", "channel"]
Draws = Callable[[LatentSite], tuple[Tensor, Tensor]]

BYTES_PER_LATENT = 8
"""A kept latent is stored as mean and standard deviation in float32, as the official encoder writes it."""


def _gaussians(site: LatentSite) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """Prior and posterior of a site.

    Raises:
        ValueError: the site holds codes, or no image was given.
    """
    if not isinstance(site.prior, DiagonalGaussian) or not isinstance(site.posterior, DiagonalGaussian):
        raise ValueError(f"site {site.name!r}: pruning needs a Gaussian prior and a Gaussian posterior")
    return site.prior, site.posterior


class MeanKL:
    """Policy that samples posteriors and averages the KL of every latent dimension over all images it sees.

    Example:
        >>> q = DiagonalGaussian(torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        >>> p = DiagonalGaussian(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        >>> statistics = MeanKL()
        >>> z = statistics(LatentSite("z", 0, p, q))
        >>> statistics.means()["z"].item()
        0.5
    """

    def __init__(self, sample: Callable[[LatentSite], Tensor] | None = None) -> None:
        self._sample = sample
        self._sums: dict[str, Tensor] = {}
        self._images: dict[str, int] = {}

    def __call__(self, site: LatentSite) -> Tensor:
        """Add the KL of this batch, and draw from the posterior (or ask the policy given instead)."""
        prior, posterior = _gaussians(site)
        kl = posterior.kl(prior).detach().double()  # (B, Z, R, R) nats
        self._sums[site.name] = self._sums.get(site.name, 0.0) + kl.sum(0)
        self._images[site.name] = self._images.get(site.name, 0) + len(kl)
        return posterior.sample() if self._sample is None else self._sample(site)

    def means(self) -> dict[str, Tensor]:
        """Site -> (Z, R, R) nats per image, float64, top first."""
        return {name: total / self._images[name] for name, total in self._sums.items()}


def channel_means(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average over positions: site -> (Z, 1, 1), nats per latent dimension; what the official code prunes by."""
    return {name: mean.mean(dim=(1, 2), keepdim=True) for name, mean in means.items()}


def keep_share(means: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which entries carry most.

    Entries above the (1 - share)-quantile of all sites together are kept (numpy's linear interpolation), as in the
    official code; 0 keeps none, and 1 keeps all, where that rule alone would drop the smallest.

    Args:
        means: site -> mean KL, (Z, R, R) for single dimensions or (Z, 1, 1) for channels.
        share: between 0 and 1.

    Returns:
        site -> bool, same shapes; larger shares keep a superset.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share}: expected a number from 0 to 1")
    if share == 1.0:
        return {name: torch.ones_like(mean, dtype=torch.bool) for name, mean in means.items()}
    threshold = _quantile(torch.cat([mean.flatten() for mean in means.values()]), 1.0 - share)
    return {name: mean > threshold for name, mean in means.items()}


def _quantile(values: Tensor, q: float) -> Tensor:
    """`numpy.quantile` with linear interpolation; torch's own refuses more than 2^24 values."""
    ordered = values.sort().values
    position = q * (len(ordered) - 1)
    below = min(int(position), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    low, high, weight = ordered[below], ordered[above], position - below
    # numpy's form, which is exact at both ends
    return high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight


def kept_dimensions(keep: Mapping[str, Tensor], shapes: Mapping[str, Iterable[int]]) -> int:
    """Latent dimensions per image that stay, given the full shape (Z, R, R) of every site."""
    return sum(int(mask.expand(*shapes[name]).sum()) for name, mask in keep.items())


class PrunedPosterior:
    """Policy: posterior samples at kept latents, prior samples at all others; only kept ones cost.

    Prior and posterior get the same noise, as in the official JAX code, so keeping all repeats the plain evaluation
    draw by draw, and keeping none repeats prior sampling.

    Args:
        keep: site -> bool, broadcastable to (Z, R, R).
        draws: (prior noise, posterior noise) of a site; default: one draw for both.
        noise: where that draw comes from; None is torch's global generator.

    Attributes:
        rates: site -> (B,) nats, KL of the kept dimensions.
    """

    def __init__(self, keep: Mapping[str, Tensor], draws: Draws | None = None, noise: Noise | None = None) -> None:
        self.keep = keep
        self.draws = draws
        self.noise = noise or GLOBAL_NOISE
        self.rates: dict[str, Tensor] = {}

    def __call__(self, site: LatentSite) -> Tensor:
        """Mix the two draws by the mask and record the cost."""
        prior, posterior = _gaussians(site)
        keep = self.keep[site.name].to(prior.mean.device)
        self.rates[site.name] = per_image(posterior.kl(prior) * keep)
        if self.draws is None:
            below = above = self.noise.normal(site.name, posterior.mean)
        else:
            below, above = self.draws(site)
        return torch.where(keep, posterior.sample(above), prior.sample(below))


def pruned_terms(
    model: AncestralModel, x: Tensor, keep: Mapping[str, Tensor], noise: Noise | None = None
) -> LikelihoodTerms:
    """Price a batch under pruned posteriors.

    Args:
        model: any model with Gaussian sites.
        x: (B, C, H, W) uint8 images.
        keep: see `PrunedPosterior`.
        noise: see `PrunedPosterior`.

    Returns:
        Distortion and the rates of the kept latents. Still a bound: the pruned posterior is a valid one, equal to the
        prior where nothing is kept.
    """
    policy = PrunedPosterior(keep, noise=noise)
    pixels = model.ancestral_pass(policy, x, len(x))
    return LikelihoodTerms(-pixels.log_prob(to_levels(x, model.bits)), policy.rates, num_dims=x[0].numel())
