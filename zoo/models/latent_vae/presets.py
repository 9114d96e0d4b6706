"""The released configurations of the latent VAE (Luhman & Luhman 2023, Table 5, and the authors' code).

Where the two differ the released value stands, since only it gives the printed parameter counts;
docs/models/latent_vae.md lists the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One released model.

    Attributes:
        hierarchy: arguments of `HierarchicalVAE`.
        shift: subtracted from the latent before `scale` divides it.
        scale: see `shift`.
        sigma_q: standard deviation of the noise that the latent is priced under, in normalised units.
    """

    hierarchy: Mapping[str, Any]
    shift: float
    scale: float
    sigma_q: float


def _latent(resolution: int, channels: int, width: int, **lists: Any) -> dict[str, Any]:
    """Arguments of a network without width changes, with attention on its three highest levels above 4x4."""
    levels = len(lists["groups"])
    plain = {"width_mult": [1] * levels, "ffn_mult": [4] * levels}
    return {"resolution": resolution, "channels": channels, "width": width, **plain, **lists}


CHURCH = _latent(
    32,
    4,
    192,
    groups=[8, 8, 8, 8, 8],
    encoder_blocks=[4, 4, 4, 4, 4],
    attention=[4, 4, 4, 0, 0],
    heads=[4, 8, 8, 0, 0],
)
BEDROOM_F4 = _latent(
    64,
    3,
    64,
    width_mult=[2, 2, 2, 3, 3, 3],
    ffn_mult=[0, 4, 4, 4, 4, 4],
    groups=[8, 12, 10, 8, 6, 6],
    encoder_blocks=[4, 6, 5, 4, 3, 3],
    attention=[0, 4, 4, 4, 0, 0],
    heads=[0, 4, 8, 8, 0, 0],
)
BEDROOM_F8 = _latent(
    32,
    4,
    192,
    groups=[8, 8, 7, 6, 6],
    encoder_blocks=[4, 4, 4, 3, 3],
    attention=[4, 4, 4, 0, 0],
    heads=[4, 8, 8, 0, 0],
)
BEDROOM_F16 = _latent(
    16, 16, 192, groups=[10, 9, 8, 6], encoder_blocks=[5, 5, 4, 3], attention=[4, 4, 0, 0], heads=[8, 8, 0, 0]
)
IMAGENET = _latent(
    32,
    4,
    256,
    encoder_width=384,
    ffn_mult=[4, 6, 8, 10, 12],
    groups=[10, 12, 10, 8, 8],
    encoder_blocks=[4, 5, 4, 3, 3],
    attention=[4, 4, 4, 0, 0],
    heads=[4, 8, 8, 8, 8],
    num_classes=1000,
    hierarchical_prior=True,
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "church_f8": Preset(CHURCH, 0.25, 4.1, 0.07),
        "bedroom_f4": Preset(BEDROOM_F4, 0.075, 0.84, 0.1),
        "bedroom_f8": Preset(BEDROOM_F8, 0.25, 4.1, 0.07),
        "bedroom_f16": Preset(BEDROOM_F16, 0.0, 3.5, 0.07),
        "imagenet256": Preset(IMAGENET, 0.25, 4.4, 0.07),
    }
)
