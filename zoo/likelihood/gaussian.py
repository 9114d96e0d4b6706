"""Diagonal Gaussians, the distributions of every continuous latent of the zoo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.likelihood.noise import GLOBAL_NOISE


class DiagonalGaussian:
    """Independent Gaussians, one per element.

    Parameterised by the log standard deviation, as VDVAE does (Child 2020); `from_std` takes a standard deviation, as
    Efficient-VDVAE does (Hazami et al. 2022, section 4).

    Args:
        mean: any shape, here (B, Z, R, R).
        log_std: same shape, natural logarithm of the standard deviation.

    Example:
        >>> p = DiagonalGaussian(torch.zeros(2), torch.zeros(2))
        >>> p.kl(p).tolist()
        [0.0, 0.0]
    """

    __slots__ = ("log_std", "mean")

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    @classmethod
    def from_std(cls, mean: Tensor, std: Tensor) -> DiagonalGaussian:
        """Build from the standard deviation itself (positive)."""
        return cls(mean, std.log())

    @classmethod
    def standard_like(cls, mean: Tensor) -> DiagonalGaussian:
        """N(0, 1) with the shape, dtype and device of `mean`."""
        return cls(torch.zeros_like(mean), torch.zeros_like(mean))

    @property
    def std(self) -> Tensor:
        """Standard deviation, same shape as the mean."""
        return self.log_std.exp()

    def sample(self, eps: Tensor | None = None) -> Tensor:
        """`mean + std * eps`; `eps` is drawn from N(0, 1) with torch's global generator if not given."""
        return self.mean + self.std * (GLOBAL_NOISE.normal("", self.mean) if eps is None else eps)

    def scaled(self, temperature: float) -> DiagonalGaussian:
        """The same means with every standard deviation multiplied by `temperature` (> 0; 0 gives the mean)."""
        if temperature == 1.0:
            return self
        log_temperature = math.log(temperature) if temperature > 0 else -math.inf
        return DiagonalGaussian(self.mean, self.log_std + log_temperature)

    def log_prob(self, z: Tensor) -> Tensor:
        """Elementwise log density in nats, same shape as `z`."""
        standardised = (z - self.mean) * (-self.log_std).exp()
        return -0.5 * standardised.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """Elementwise KL(self || other) in nats.

        `ln s_p - ln s_q + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2`, written with differences of the logarithms so
        that equal distributions give exactly zero.
        """
        log_ratio = self.log_std - other.log_std
        shift = (self.mean - other.mean) * (-other.log_std).exp()
        return 0.5 * (torch.expm1(2.0 * log_ratio) + shift.square()) - log_ratio
