"""Pictures of a VDM: its schedule, its loss over time, its samples on their way from noise to image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.likelihood import Recording, SamplePrior, from_levels
from zoo.models.vdm.model import VDM
from zoo.models.vdm.profile import profile, straight, using_schedule
from zoo.pictures import Curve, Plot, grid
from zoo.pictures.plot import picture

SIZE = (640, 380)


def schedule_chart(model: VDM) -> Image.Image:
    """gamma(t) beside the line with the same ends."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64, device=next(model.parameters()).device)
    with torch.no_grad():
        own, line = model.schedule(t).gamma, straight(model)(t).gamma
    curves = [_curve("learned", t, own), _curve("linear, same ends", t, line)]
    return picture(Plot(curves, "Noise schedule", "t", "gamma = -log SNR", size=SIZE))


def loss_chart(model: VDM, x: Tensor, points: int = 40, label: Tensor | None = None) -> Image.Image:
    """Mean and standard deviation over images of the diffusion loss at each time, learned against linear."""
    own = profile(model, x, points, label)
    with using_schedule(model, straight(model)):
        linear = profile(model, x, points, label)
    curves = [_curve(name, p.t, p.mean, p.std) for name, p in (("learned", own), ("linear, same ends", linear))]
    title = "Diffusion loss at one time (band: std over images)"
    return picture(Plot(curves, title, "t", "bits/dim", size=SIZE))


def _curve(name: str, x: Tensor, y: Tensor, band: Tensor | None = None) -> Curve:
    """A line without dots."""
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    return Curve(name, points, marks=False, band=() if band is None else band.tolist())


@torch.no_grad()
def samples_over_time(model: VDM, n: int, columns: int = 8, label: Tensor | None = None) -> Tensor:
    """Samples on their way from noise to image.

    Args:
        model: the model; `steps` is the number of steps.
        n: samples, one row each.
        columns: pictures per row; the first is z_1, the last the sample.
        label: (n,) classes.

    Returns:
        (n, columns, C, H, W) uint8. Latents are shown without their scale, z / sqrt(alpha^2 + sigma^2) = z.
    """
    recording = Recording(SamplePrior())
    levels = model.ancestral_pass(recording, n=n, label=label).sample()
    chosen = np.linspace(0, len(recording.latents) - 1, columns - 1).round().astype(int)
    pictures = [((recording.latents[k].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for k in chosen]
    return torch.stack([*pictures, from_levels(levels, model.bits)], dim=1)


def to_tensor(image: Image.Image) -> Tensor:
    """Picture -> (3, H, W) uint8."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)


def previews(model: VDM, x: Tensor | None, n: int = 4, label: Tensor | None = None) -> Mapping[str, Tensor]:
    """What a training run shows beside samples: (3, H, W) or (C, H, W) uint8 pictures by name."""
    rows = samples_over_time(model, n)
    over_time = grid(rows.flatten(0, 1).cpu(), columns=rows.shape[1])  # (B, K, C, H, W) -> (B K, C, H, W)
    pictures = {
        "samples_over_time": torch.from_numpy(over_time).permute(2, 0, 1),
        "schedule": to_tensor(schedule_chart(model)),
    }
    if x is not None:
        pictures["loss_over_time"] = to_tensor(loss_chart(model, x, 20, label))
    return pictures
