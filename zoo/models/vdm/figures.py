"""Pictures of a VDM: its schedule, its loss over time, its samples on their way from noise to image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zoo.likelihood import Recording, SamplePrior, from_levels
from zoo.models.vdm.model import VDM
from zoo.models.vdm.profile import profile, straight, using_schedule

COLOURS = ((31, 82, 158), (200, 80, 20), (30, 130, 76), (120, 60, 150))
INK, GRID = (40, 40, 40), (225, 225, 225)


@dataclass(frozen=True)
class Line:
    """One curve of a chart; `band` is drawn around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[float] | None = None


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that divide a range.

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / count
    power = float(10.0 ** np.floor(np.log10(raw)))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(k * step, 10) for k in range(first, last + 1)]


def chart(
    lines: Sequence[Line], title: str, x_label: str, y_label: str, size: tuple[int, int] = (560, 360)
) -> Image.Image:
    """Draw curves with axes and a legend."""
    width, height = size
    left, right, top, bottom = 62, width - 16, 34, height - 46
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(12)
    spread = [np.asarray(line.band if line.band is not None else np.zeros(len(line.y))) for line in lines]
    x_low, x_high = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
    y_low = min((np.asarray(line.y) - s).min() for line, s in zip(lines, spread, strict=True))
    y_high = max((np.asarray(line.y) + s).max() for line, s in zip(lines, spread, strict=True))
    margin = 0.04 * (y_high - y_low or 1.0)
    y_low, y_high = y_low - margin * (y_low != 0), y_high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * (right - left),
            bottom - (y - y_low) / (y_high - y_low) * (bottom - top),
        )

    for value in ticks(y_low, y_high):
        _, row = place(x_low, value)
        draw.line([(left, row), (right, row)], fill=GRID)
        draw.text((left - 6, row), f"{value:g}", fill=INK, font=font, anchor="rm")
    for value in ticks(x_low, x_high):
        column, _ = place(value, y_low)
        draw.line([(column, bottom), (column, bottom + 4)], fill=INK)
        draw.text((column, bottom + 7), f"{value:g}", fill=INK, font=font, anchor="ma")
    for line, colour, s in zip(lines, COLOURS, spread, strict=False):
        upper = [place(x, y + d) for x, y, d in zip(line.x, line.y, s, strict=True)]
        lower = [place(x, y - d) for x, y, d in zip(line.x, line.y, s, strict=True)]
        if line.band is not None:
            draw.polygon(upper + lower[::-1], fill=(*colour, 40))
        draw.line([place(x, y) for x, y in zip(line.x, line.y, strict=True)], fill=colour, width=2)
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=INK)
    for row, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        draw.line([(left + 12, top + 12 + 16 * row), (left + 36, top + 12 + 16 * row)], fill=colour, width=3)
        draw.text((left + 42, top + 12 + 16 * row), line.name, fill=INK, font=font, anchor="lm")
    draw.text((width / 2, 8), title, fill=INK, font=ImageFont.load_default(14), anchor="ma")
    draw.text(((left + right) / 2, height - 8), x_label, fill=INK, font=font, anchor="md")
    draw.text((6, 22), y_label, fill=INK, font=font, anchor="lm")
    return image


def schedule_chart(model: VDM) -> Image.Image:
    """gamma(t) beside the line with the same ends."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64, device=next(model.parameters()).device)
    with torch.no_grad():
        own, line = model.schedule(t).gamma, straight(model)(t).gamma
    lines = [Line("learned", t.tolist(), own.tolist()), Line("linear, same ends", t.tolist(), line.tolist())]
    return chart(lines, "Noise schedule", "t", "gamma = -log SNR")


def loss_chart(model: VDM, x: Tensor, points: int = 40, label: Tensor | None = None) -> Image.Image:
    """Mean and standard deviation over images of the diffusion loss at each time, learned against linear."""
    lines = []
    own = profile(model, x, points, label)
    with using_schedule(model, straight(model)):
        linear = profile(model, x, points, label)
    for name, p in (("learned", own), ("linear, same ends", linear)):
        lines.append(Line(name, p.t.tolist(), p.mean.tolist(), p.std.tolist()))
    return chart(lines, "Diffusion loss at one time (band: std over images)", "t", "bits/dim")


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
    B, K, C, H, W = rows.shape
    grid = rows.permute(2, 0, 3, 1, 4).reshape(C, B * H, K * W)  # (B, K, C, H, W) -> (C, B H, K W)
    pictures = {"samples_over_time": grid, "schedule": to_tensor(schedule_chart(model))}
    if x is not None:
        pictures["loss_over_time"] = to_tensor(loss_chart(model, x, 20, label))
    return pictures
