"""Distances between an image and its reconstruction. Images are uint8 (B, C, H, W); every result is (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SSIM_MARGIN = 5  # half of the 11-tap window, rounded down


def unit(images: Tensor) -> Tensor:
    """uint8 -> float64 in [0, 1]."""
    return images.double() / 255.0


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared error per image, pixels in [0, 1]."""
    return (unit(first) - unit(second)).square().mean(dim=(1, 2, 3))


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal to noise ratio per image in dB, range 255; average it over images, not the errors."""
    return -10.0 * torch.log10(mse(first, second))


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity per image (Wang et al. 2004): 11-tap Gaussian, windows wholly inside the image.

    torchmetrics averages over a padded image instead; its map is cropped here to what the definition says.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(first.shape[-2:]) <= 2 * SSIM_MARGIN:
        raise ValueError(f"ssim needs sides of more than {2 * SSIM_MARGIN} pixels, got {tuple(first.shape[-2:])}")
    _, full = structural_similarity_index_measure(
        unit(first), unit(second), data_range=1.0, reduction="none", return_full_image=True
    )
    return full[..., SSIM_MARGIN:-SSIM_MARGIN, SSIM_MARGIN:-SSIM_MARGIN].mean(dim=(1, 2, 3))


def ssim_zero_padded(first: Tensor, second: Tensor) -> Tensor:
    """SSIM as the official Efficient-VDVAE code reports it: black around the image, so borders count.

    Args:
        first: (B, C, H, W) pixels on the scale 0 to 255, integer or real.
        second: the same.

    Returns:
        (B,) float64. Not the number of `ssim`; only for repeating theirs.
    """
    offsets = torch.arange(-SSIM_MARGIN, SSIM_MARGIN + 1, dtype=torch.float64, device=first.device)
    bell = torch.exp(-0.5 * (offsets / 1.5).square())
    bell = bell / bell.sum()
    channels = first.shape[1]
    window = torch.outer(bell, bell).expand(channels, 1, -1, -1)  # (C, 1, 11, 11)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, padding=SSIM_MARGIN, groups=channels)

    a, b = first.double(), second.double()
    mean_a, mean_b = local_mean(a), local_mean(b)
    spread = local_mean(a * a) - mean_a.square() + local_mean(b * b) - mean_b.square()
    together = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (likeness * (2 * together + c2) / (spread + c2)).mean(dim=(1, 2, 3))
