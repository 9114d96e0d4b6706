"""Distances between an image and its reconstruction. Images are uint8 (B, C, H, W); every result is (B,)."""

from __future__ import annotations

import torch
from torch import Tensor

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
