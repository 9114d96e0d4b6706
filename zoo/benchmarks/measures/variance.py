"""What a noise schedule does to the estimate of a diffusion model's bound: the variance of one draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.likelihood import nats_to_bits_per_dim
from zoo.models.vdm.schedules import AlphaCosineSchedule, BetaLinearSchedule, FixedSchedule

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


def variances(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> dict[str, Variance]:
    """Variance under every schedule of the paper's comparison with the ends of the model's own, for the same noise.

    Returns:
        `linear`, `beta_linear`, `alpha_cosine`, and `own`.
    """
    ends = [end.item() for end in model.schedule.ends()]
    others = {
        "linear": FixedSchedule(*ends),
        "beta_linear": BetaLinearSchedule(*ends),
        "alpha_cosine": AlphaCosineSchedule(*ends),
    }
    state, found = torch.get_rng_state(), {}
    for name, schedule in {**others, "own": model.schedule}.items():
        torch.set_rng_state(state)
        with model.on_schedule(schedule):
            found[name] = variance(model, x, points, label)
    return found
