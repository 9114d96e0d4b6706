"""Plots of a noise schedule and of the loss over time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.likelihood import nats_to_bits_per_dim
from zoo.models.vdm.schedules import NoiseSchedule
from zoo.pictures import Curve, Plot
from zoo.pictures.plot import picture

SIZE = (640, 380)


def schedule_chart(schedule: NoiseSchedule) -> Image.Image:
    """gamma(t) beside the line with the same ends."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64, device=schedule.ends()[0].device)
    with torch.no_grad():
        own, line = schedule(t).gamma, schedule.straight()(t).gamma
    curves = [_curve("learned", t, own), _curve("linear, same ends", t, line)]
    return picture(Plot(curves, "Noise schedule", "t", "gamma = -log SNR", size=SIZE))


def loss_chart(losses: Mapping[str, tuple[Tensor, Tensor]], dims: int) -> Image.Image:
    """Mean and standard deviation over images of the diffusion loss at each time.

    Args:
        losses: what `VDM.losses_over_time` returns, by the name of the schedule.
        dims: numbers in an image.
    """
    curves = []
    for name, (t, nats) in losses.items():
        bits = nats_to_bits_per_dim(nats, dims)  # (P, B)
        curves.append(_curve(name, t, bits.mean(1), bits.std(1)))
    title = "Diffusion loss at one time (band: std over images)"
    return picture(Plot(curves, title, "t", "bits/dim", size=SIZE))


def _curve(name: str, x: Tensor, y: Tensor, band: Tensor | None = None) -> Curve:
    """A line without dots."""
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    return Curve(name, points, marks=False, band=() if band is None else band.tolist())


def to_tensor(image: Image.Image) -> Tensor:
    """Picture -> (3, H, W) uint8."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
