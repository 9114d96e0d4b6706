"""Training aids of the hierarchical VAE: the balance of KL terms and the spectral penalty.

Luhman & Luhman 2022 ("Optimizing Hierarchical Image VAEs for Sample Quality"), section 3, and 2023, section 3.4.
Letters: B batch, L stochastic layers in generation order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.models.latent_vae.blocks import StochasticLayer

SHARED_PERCENT = 66.7  # the designated shares leave a third of the rate free
SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.1, 2.0


@dataclass(frozen=True)
class RateSchedule:
    """Share of the total rate that each layer is meant to carry.

    Attributes:
        kind: "shifted_exp" grows exponentially along the layers, "constant_per" gives one number per level, and "none"
            weighs every KL by one.
        scale: S of shifted_exp, the ratio of the last layer's term to the first one's, before the shift.
        shift: t of shifted_exp.
        levels: of constant_per, one number per level, highest resolution first.
    """

    kind: Literal["shifted_exp", "constant_per", "none"] = "shifted_exp"
    scale: float = 1000.0
    shift: float = 10.0
    levels: Sequence[float] = ()

    def shares(self, layers_per_level: Sequence[int]) -> Tensor | None:
        """Designated shares in percent, summing to 66.7.

        Args:
            layers_per_level: stochastic layers per level in generation order (lowest resolution first).

        Returns:
            (L,) float32, or None for the kind "none".

        Raises:
            UserError: `levels` does not have one number per level.
        """
        if self.kind == "none":
            return None
        total = sum(layers_per_level)
        if self.kind == "shifted_exp":
            step = math.log(self.scale) / max(total - 1, 1)
            terms = [math.exp(step * i) + self.shift for i in range(total)]
        else:
            if len(self.levels) != len(layers_per_level):
                count = len(layers_per_level)
                raise UserError(f"schedule.levels: {len(self.levels)} numbers for {count} levels; give one per level")
            pairs = zip(reversed(self.levels), layers_per_level, strict=True)
            terms = [float(value) for value, count in pairs for _ in range(count)]
        return torch.tensor([SHARED_PERCENT * term / sum(terms) for term in terms])


def balance_weights(kls: Tensor, shares: Tensor) -> Tensor:
    """Weight of each KL: cheap below the layer's share of the image's rate, dear above twice the share.

    With lo = share * total, the weight is KL/lo below lo, 1 up to 2 lo, rises to 2 at 3 lo, and stays in [0.1, 2].

    Args:
        kls: (B, L) nats.
        shares: (L,) percent.

    Returns:
        (B, L), constants for the gradient.

    Example:
        >>> balance_weights(torch.tensor([[1.0, 9.0]]), torch.tensor([20.0, 20.0]))
        tensor([[0.5000, 2.0000]])
    """
    kls = kls.detach()
    low = shares.to(kls) / 100.0 * kls.sum(dim=1, keepdim=True)  # (B, L)
    ratio = kls / low.clamp_min(torch.finfo(kls.dtype).tiny)
    weight = torch.where(ratio < 1.0, ratio, torch.where(ratio <= 2.0, torch.ones_like(ratio), ratio - 1.0))
    return weight.clamp(SMALLEST_WEIGHT, LARGEST_WEIGHT)


def kernel_matrix(convolution: nn.Conv2d) -> Tensor:
    """Kernel as a matrix: (out, in, k, k) -> (out, in * k * k)."""
    return convolution.weight.flatten(1)


def regularised_kernels(layer: StochasticLayer) -> list[nn.Conv2d]:
    """Last kernels of the posterior and, if it is learned, of the prior: the ones the penalty acts on."""
    kernels = [layer.posterior_block.last]
    return [layer.prior_block.last, *kernels] if layer.learned_prior else kernels


def exact_spectral_penalty(layers: Sequence[StochasticLayer]) -> Tensor:
    """Sum over layers of resolution times largest singular value, by full decomposition; scalar."""
    values = [
        layer.resolution * torch.linalg.matrix_norm(kernel_matrix(kernel).double(), ord=2)
        for layer in layers
        for kernel in regularised_kernels(layer)
    ]
    return torch.stack(values).sum()


class SpectralPenalty(nn.Module):
    """The same penalty by power iteration, one step a call; the vectors are state but not part of a checkpoint.

    Args:
        layers: the stochastic layers.
    """

    def __init__(self, layers: Sequence[StochasticLayer]) -> None:
        super().__init__()
        self._kernels = [(layer.resolution, kernel) for layer in layers for kernel in regularised_kernels(layer)]
        for i, (_, kernel) in enumerate(self._kernels):
            self.register_buffer(f"u{i}", F.normalize(torch.randn(len(kernel.weight)), dim=0), persistent=False)

    def forward(self) -> Tensor:
        """One step of power iteration on every kernel; scalar with gradient."""
        parts = []
        for i, (resolution, kernel) in enumerate(self._kernels):
            matrix = kernel_matrix(kernel)
            with torch.no_grad():
                v = F.normalize(matrix.T @ getattr(self, f"u{i}"), dim=0)
                u = F.normalize(matrix @ v, dim=0)
                setattr(self, f"u{i}", u)
            parts.append(resolution * torch.dot(u, matrix @ v))
        return sum(parts[1:], parts[0])
