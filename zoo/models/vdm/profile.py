"""What a noise schedule does to the estimate of the bound: loss over time, and the variance of one draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.likelihood import nats_to_bits_per_dim
from zoo.models.vdm.model import VDM
from zoo.models.vdm.schedules import FixedSchedule, NoiseSchedule


@dataclass(frozen=True)
class Profile:
    """The diffusion loss at evenly spaced times, all in bits/dim and float64.

    Attributes:
        t: (P,) times, the middles of P equal intervals.
        gamma: (P,) schedule.
        mean: (P,) mean over images and noise of the estimate that uses this time alone.
        std: (P,) its standard deviation over images and noise.
    """

    t: Tensor
    gamma: Tensor
    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Variance:
    """Variance of the estimate of one image from one uniform time, in (bits/dim)^2.

    Attributes:
        total: over images, times and noise.
        times: part that the time alone explains, the variance over t of the mean loss; a flat profile has none.
    """

    total: float
    times: float


@contextmanager
def using_schedule(model: VDM, schedule: NoiseSchedule) -> Iterator[None]:
    """Within the block the model runs on another schedule; the network takes gamma, so it needs no retraining."""
    own, model.schedule = model.schedule, schedule
    try:
        yield
    finally:
        model.schedule = own


def straight(model: VDM) -> FixedSchedule:
    """The log-SNR-linear schedule with the end points of the model's own."""
    low, high = (end.item() for end in model.schedule.ends())
    return FixedSchedule(low, high)


@torch.no_grad()
def losses_over_time(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Diffusion loss of every image at every time, one noise each.

    Returns:
        (P,) times and (P, B) bits/dim.
    """
    f = model.encode(x)
    times = (torch.arange(points, dtype=torch.float64, device=x.device) + 0.5) / points
    rows = [model.diffusion_nats(f, t.expand(len(x)), torch.randn_like(f), label=label)[0] for t in times]
    return times, nats_to_bits_per_dim(torch.stack(rows), x[0].numel())


def profile(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> Profile:
    """Loss over time on images (B, C, H, W) uint8."""
    times, losses = losses_over_time(model, x, points, label)
    with torch.no_grad():
        gamma = model.schedule(times).gamma
    return Profile(times, gamma, losses.mean(1), losses.std(1))


def variance(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> Variance:
    """Variance of the bound estimated from one time, by stratified times (all images at each of `points` times).

    The reconstruction and latent terms do not depend on the time and are left out.
    """
    _, losses = losses_over_time(model, x, points, label)
    return Variance(losses.var(correction=0).item(), losses.mean(1).var(correction=0).item())


def variance_ratio(model: VDM, x: Tensor, points: int = 50, label: Tensor | None = None) -> tuple[Variance, Variance]:
    """Variance under the linear schedule with the same ends, and under the model's own, for the same noise."""
    state = torch.get_rng_state()
    with using_schedule(model, straight(model)):
        linear = variance(model, x, points, label)
    torch.set_rng_state(state)
    return linear, variance(model, x, points, label)
