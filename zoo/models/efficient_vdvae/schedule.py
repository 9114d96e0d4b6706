"""How Efficient-VDVAE weighs the KL terms during training (official code, `vae_beta_*` and `gamma_*` settings)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.models.blocks import ramp


@dataclass(frozen=True)
class KLSchedule:
    """Warm-up of the whole KL, and an early balancing of the layers against each other.

    The training loss is `distortion + weight(t) * sum_l balance_l * rate_l`, everything in nats per dimension.

    Attributes:
        kind: shape of the warm-up: "linear", "logistic" or "none" (weight 1 from the start).
        start: linear: step at which the weight leaves its floor.
        steps: linear: with this many steps the weight is `(t - start) / (start + steps)`, so 1 at `2 start + steps`.
        floor: linear: smallest weight, so that the posterior never runs free of the prior.
        midpoint: logistic: step at which the weight is one half.
        growth: logistic: slope, per step.
        balance_steps: last step at which layers are balanced: layers that carry more nats are charged more, in
            proportion. Negative: never.
        balance_by_size: measure what a layer carries per latent dimension instead of in total.

    Example:
        >>> round(KLSchedule().weight(100).item(), 6), KLSchedule().weight(5042).item()
        (0.015734, 1.0)
    """

    kind: Literal["linear", "logistic", "none"] = "linear"
    start: int = 21
    steps: int = 5000
    floor: float = 1e-4
    midpoint: int = 10000
    growth: float = 1e-5
    balance_steps: int = 10000
    balance_by_size: bool = True

    def weight(self, step: int | Tensor) -> Tensor:
        """Weight of the KL at a step (the first step is 0), a scalar."""
        if self.kind == "none":
            return torch.ones(())
        if self.kind == "logistic":
            return torch.sigmoid(self.growth * (torch.as_tensor(step, dtype=torch.float32) - self.midpoint))
        return ramp(step, self.start, self.start + self.steps, self.floor)

    def weighted_rate(self, rates: Mapping[str, Tensor], sizes: Tensor, num_dims: int, step: int | Tensor) -> Tensor:
        """The KL part of the training loss.

        Args:
            rates: layer name -> (B,) nats, in the order of `sizes`.
            sizes: (L,) latent dimensions of each layer.
            num_dims: dimensions of one image.
            step: training step, from 0.

        Returns:
            Scalar in nats per dimension.
        """
        per_layer = torch.stack([rate.mean() for rate in rates.values()])  # (L,) nats per image
        carried = per_layer.detach()
        if self.balance_by_size:
            carried = carried / sizes
        balance = len(carried) * carried / carried.sum().clamp_min(torch.finfo(carried.dtype).tiny)
        late = (torch.as_tensor(step) > self.balance_steps).to(carried.dtype)  # 0 or 1, without asking the device
        return self.weight(step) * ((balance * (1 - late) + late) * per_layer).sum() / num_dims
