"""Sites and policies: where a latent is drawn, and where the drawn value comes from.

A hierarchical model has one top-down traversal. At each site it hands its prior and (if it has seen an image) its
posterior to a policy and goes on with the value it gets back. Training, sampling, partial reconstruction, replay of
recorded noise and both ends of the codec are policies; the network is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.noise import GLOBAL_NOISE, Noise
from zoo.likelihood.visit import Choose


class CodeDistribution(Protocol):
    """A distribution over a grid of codes that can be priced, drawn and coded."""

    def log_prob(self, symbols: Tensor) -> Tensor:
        """(B,) nats of int64 codes (B, ...)."""
        ...

    def sample(self) -> Tensor:
        """(B, ...) int64 codes."""
        ...

    def visit(self, choose: Choose) -> Tensor:
        """Visit every code; see `zoo.likelihood.visit`."""
        ...


@dataclass(frozen=True)
class PointMass:
    """The posterior of a deterministic encoder: all mass on `codes` (B, ...), int64."""

    codes: Tensor


@dataclass(frozen=True)
class LatentSite:
    """A place of the traversal where a latent is drawn.

    Attributes:
        name: unique in the model and stable over calls; the key of the rate.
        index: position in the traversal, 0 is the top.
        prior: p(z | latents above): a Gaussian, or a distribution over codes.
        posterior: q(z | latents above, x): a Gaussian or a point mass; None when the model has seen no image.
    """

    name: str
    index: int
    prior: DiagonalGaussian | CodeDistribution
    posterior: DiagonalGaussian | PointMass | None = None


class LatentPolicy(Protocol):
    """Gives the value of the latent at a site."""

    def __call__(self, site: LatentSite) -> Tensor:
        """Return z with the shape of the prior's mean, or int64 codes at a site of codes."""
        ...


def per_image(values: Tensor) -> Tensor:
    """Sum everything but the batch axis: (B, ...) -> (B,)."""
    return values.flatten(1).sum(1)


def _posterior(site: LatentSite) -> DiagonalGaussian | PointMass:
    if site.posterior is None:
        raise ValueError(f"site {site.name!r} has no posterior: give the traversal an image")
    return site.posterior


def site_kl(site: LatentSite) -> Tensor:
    """(B,) nats, KL(posterior || prior) of a site; of a point mass it is -log p(codes)."""
    posterior = _posterior(site)
    if isinstance(posterior, PointMass):
        return -gaussian_free(site.prior).log_prob(posterior.codes)
    return per_image(posterior.kl(gaussian(site.prior)))


def gaussian(distribution: DiagonalGaussian | CodeDistribution) -> DiagonalGaussian:
    """The distribution as a Gaussian; TypeError if a site mixes a Gaussian with codes."""
    if not isinstance(distribution, DiagonalGaussian):
        raise TypeError(f"a Gaussian site needs a Gaussian prior, got {type(distribution).__name__}")
    return distribution


def gaussian_free(distribution: DiagonalGaussian | CodeDistribution) -> CodeDistribution:
    """The distribution as one over codes; TypeError if a site mixes a Gaussian with codes."""
    if isinstance(distribution, DiagonalGaussian):
        raise TypeError("a site of codes needs a discrete prior, got a Gaussian")
    return distribution


def drawn(distribution: DiagonalGaussian, site: LatentSite, noise: Noise) -> Tensor:
    """A draw from a Gaussian with the noise of a site."""
    return distribution.sample(noise.normal(site.name, distribution.mean))


class SamplePosterior:
    """One posterior sample at each site; the policy of training and evaluation.

    Args:
        noise: where the random numbers come from; None is torch's global generator.

    Attributes:
        rates: name -> (B,) nats, the analytic KL of every site visited, in order.
    """

    def __init__(self, noise: Noise | None = None) -> None:
        self.noise = noise or GLOBAL_NOISE
        self.rates: dict[str, Tensor] = {}

    def __call__(self, site: LatentSite) -> Tensor:
        """Record the KL and draw from the posterior."""
        posterior = _posterior(site)
        self.rates[site.name] = site_kl(site)
        return posterior.codes if isinstance(posterior, PointMass) else drawn(posterior, site, self.noise)


class ImportanceSample:
    """As `SamplePosterior`, but records log q(z) - log p(z) of the drawn value, for importance-weighted bounds.

    Burda et al. (2016), equation 8: -log mean_k exp(-nelbo_k) over K passes is a tighter bound.

    Args:
        noise: as in `SamplePosterior`; every pass needs its own.
    """

    def __init__(self, noise: Noise | None = None) -> None:
        self.noise = noise or GLOBAL_NOISE
        self.rates: dict[str, Tensor] = {}

    def __call__(self, site: LatentSite) -> Tensor:
        """Draw from the posterior and record the log-ratio."""
        posterior = _posterior(site)
        if isinstance(posterior, PointMass):
            self.rates[site.name] = site_kl(site)
            return posterior.codes
        z = drawn(posterior, site, self.noise)
        self.rates[site.name] = per_image(posterior.log_prob(z) - gaussian(site.prior).log_prob(z))
        return z


class SamplePrior:
    """A prior sample at each site: unconditional generation.

    Args:
        temperature: multiplies the prior's standard deviation; a number, a sequence indexed by site (top first), or a
            function of the site. 0 gives the mean. Sites of codes ignore it.
        noise: as in `SamplePosterior`; codes are always drawn with torch's global generator.
    """

    def __init__(
        self,
        temperature: float | Sequence[float] | Callable[[LatentSite], float] = 1.0,
        noise: Noise | None = None,
    ) -> None:
        self.temperature = temperature
        self.noise = noise or GLOBAL_NOISE

    def __call__(self, site: LatentSite) -> Tensor:
        """Draw from the prior at the site's temperature."""
        if not isinstance(site.prior, DiagonalGaussian):
            return site.prior.sample()
        return drawn(site.prior.scaled(temperature_at(self.temperature, site)), site, self.noise)


def temperature_at(temperature: float | Sequence[float] | Callable[[LatentSite], float], site: LatentSite) -> float:
    """The temperature of one site."""
    if callable(temperature):
        return float(temperature(site))
    if isinstance(temperature, Sequence):
        return float(temperature[site.index])
    return float(temperature)


class Replay:
    """Recorded noise instead of fresh noise: z = mean + std * eps at each Gaussian site.

    Args:
        noise: eps by position in the traversal (sequence) or by site name (mapping).
        source: which distribution the noise goes through.
        temperature: of the prior, as in `SamplePrior`.
    """

    def __init__(
        self,
        noise: Sequence[Tensor] | Mapping[str, Tensor],
        source: str = "posterior",
        temperature: float | Sequence[float] = 1.0,
    ) -> None:
        self.noise = noise
        self.source = source
        self.temperature = temperature
        self.rates: dict[str, Tensor] = {}

    def __call__(self, site: LatentSite) -> Tensor:
        """Push the recorded noise through the chosen distribution; the KL is recorded where there is a posterior."""
        eps = self.noise[site.name] if isinstance(self.noise, Mapping) else self.noise[site.index]
        if site.posterior is not None:
            self.rates[site.name] = site_kl(site)
        if self.source == "prior":
            return gaussian(site.prior).scaled(temperature_at(self.temperature, site)).sample(eps)
        posterior = _posterior(site)
        return posterior.codes if isinstance(posterior, PointMass) else posterior.sample(eps)


class Remembering:
    """A policy that will see the same latents again: layers keep priors and states instead of computing them twice.

    A decoder draws all latents before it knows the image, and asks for their posteriors afterwards. What no longer fits
    is computed again.

    Args:
        room: bytes that may be kept.

    Attributes:
        kept: index of a site -> its prior, and the state below it.
    """

    def __init__(self, room: int = 1 << 28) -> None:
        self.kept: dict[int, tuple[DiagonalGaussian, Tensor]] = {}
        self.room = room

    def keep(self, index: int, prior: DiagonalGaussian, below: Tensor) -> None:
        """Keep what a layer computed, if there is room."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in (prior.mean, prior.log_std, below))
        if size <= self.room:
            self.kept[index] = prior, below
            self.room -= size


class Given:
    """Known latents, by position in the traversal."""

    def __init__(self, latents: Sequence[Tensor]) -> None:
        self.latents = latents

    def __call__(self, site: LatentSite) -> Tensor:
        """Return the latent of this position."""
        return self.latents[site.index]


class Split:
    """One policy for the first `k` sites, another below them."""

    def __init__(self, k: int, upper: LatentPolicy, lower: LatentPolicy) -> None:
        self.k = k
        self.upper = upper
        self.lower = lower

    def __call__(self, site: LatentSite) -> Tensor:
        """Ask the policy in charge of this site."""
        return self.upper(site) if site.index < self.k else self.lower(site)


def PosteriorThenPrior(k: int, temperature: float = 1.0) -> Split:
    """Posterior for the first `k` sites, prior below: partial reconstruction (Child 2020, figure 4)."""
    return Split(k, SamplePosterior(), SamplePrior(temperature))


class Recording:
    """Wraps a policy and keeps every site and value.

    Attributes:
        sites: the visited sites, top first.
        latents: the values, in the same order.
    """

    def __init__(self, policy: LatentPolicy) -> None:
        self.policy = policy
        self.sites: list[LatentSite] = []
        self.latents: list[Tensor] = []

    def __call__(self, site: LatentSite) -> Tensor:
        """Ask the wrapped policy, and remember."""
        z = self.policy(site)
        self.sites.append(site)
        self.latents.append(z)
        return z


def importance_weighted(nelbos: Tensor) -> Tensor:
    """The importance-weighted bound from K single-sample bounds (Burda et al. 2016, equation 8).

    Args:
        nelbos: (K, B) nats, each with sampled log-ratios as rates.

    Returns:
        (B,) nats, `-log mean_k exp(-nelbo_k)`.
    """
    return torch.log(torch.tensor(float(len(nelbos)))) - torch.logsumexp(-nelbos, dim=0)
