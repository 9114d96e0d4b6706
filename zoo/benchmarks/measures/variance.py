"""What a noise schedule does to the estimate of a diffusion model's bound: the variance of one draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.likelihood import nats_to_bits_per_dim

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.models import VDM


@dataclass(frozen=True)
class Variance:
    """Variance of the estimate of one image from one uniform time, in (bits/dim)^2.

    Attributes:
        total: over images, times and noise.
        times: part that the time alone explains, the variance over t of the mean loss; a flat profile has none.
    """

    total: float
    times: float


def variance(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> Variance:
    """Variance of the bound estimated from one time, by stratified times (all images at each of `points` times).

    The reconstruction and latent terms do not depend on the time and are left out.
    """
    _, losses = model.losses_over_time(x, points, label)
    losses = nats_to_bits_per_dim(losses, x[0].numel())
    return Variance(losses.var(correction=0).item(), losses.mean(1).var(correction=0).item())


def variance_ratio(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> tuple[Variance, Variance]:
    """Variance under the linear schedule with the same ends, and under the model's own, for the same noise."""
    state = torch.get_rng_state()
    with model.on_schedule(model.schedule.straight()):
        linear = variance(model, x, points, label)
    torch.set_rng_state(state)
    return linear, variance(model, x, points, label)
