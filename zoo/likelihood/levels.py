"""Integer levels: 8-bit source pixels reduced to `bits`, and where a level lies on the real axis.

The axis is the one of PixelCNN++ (Salimans et al. 2017): 8-bit pixel v lies at (v - 127.5) / 127.5, so 0 is -1 and 255
is +1. A level of fewer bits lies where its smallest 8-bit pixel lies, as in the official 5-bit codes of Child (2020)
and Hazami et al. (2022); at 8 bits nothing changes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zoo.errors import UserError

Bins = Literal["normalised", "vdvae", "efficient_vdvae"]
"""How the mass of a level is computed. `normalised`: bins meet, all levels sum to one. The other two are the formulas
of the official codes, kept to reproduce their numbers; at 5 bits their bins overlap (docs/five_bits.md)."""


def check_bits(bits: int) -> int:
    """Return `bits` if it is a depth between 1 and 8.

    Raises:
        UserError: for any other depth.
    """
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 8:
        raise UserError(f"bits={bits!r}: expected a whole number from 1 to 8 (source pixels have 8 bits)")
    return bits


def to_levels(pixels: Tensor, bits: int) -> Tensor:
    """Reduce 8-bit pixels to integer levels, `v >> (8 - bits)`.

    Args:
        pixels: (..., ) uint8 source pixels.
        bits: depth of the result, 1 to 8.

    Returns:
        The same shape, int64 in [0, 2**bits).

    Raises:
        ValueError: if the pixels are not uint8.

    Example:
        >>> to_levels(torch.tensor([0, 7, 8, 255], dtype=torch.uint8), bits=5).tolist()
        [0, 0, 1, 31]
    """
    if pixels.dtype != torch.uint8:
        raise ValueError(f"expected uint8 pixels, got {pixels.dtype}")
    return pixels.long() >> (8 - bits)


def from_levels(levels: Tensor, bits: int) -> Tensor:
    """The uint8 pixel that stands for a level: its smallest one, `level << (8 - bits)`.

    `to_levels(from_levels(k, bits), bits) == k` for every level.
    """
    return (levels << (8 - bits)).to(torch.uint8)


def level_values(levels: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Where levels lie on the [-1, 1] axis: `(level * 2**(8 - bits) - 127.5) / 127.5`.

    Example:
        >>> level_values(torch.tensor([0, 31]), bits=5, dtype=torch.float64).tolist()
        [-1.0, 0.9450980392156862]
    """
    return (levels.to(dtype) * float(1 << (8 - bits)) - 127.5) / 127.5


def half_bin(bits: int) -> float:
    """Half the spacing of neighbouring levels on the [-1, 1] axis, so that bins of this half-width meet."""
    return float(1 << (8 - bits)) / 255.0
