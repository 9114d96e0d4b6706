"""The models of the zoo; each is imported when its name is first used.

>>> from zoo.models import VDVAE
"""

from importlib import import_module
from typing import Any

MODULES: dict[str, str] = {
    "CodePrior": "zoo.models.pixelsnail",
    "PixelSNAIL": "zoo.models.pixelsnail",
    "QuantisedAutoencoder": "zoo.models.vqvae2",
    "VQVAE2": "zoo.models.vqvae2",
    "EfficientVDVAE": "zoo.models.efficient_vdvae",
    "KLAutoencoder": "zoo.models.latent_vae",
    "LatentVAE": "zoo.models.latent_vae",
    "VDVAE": "zoo.models.vdvae",
    "VQAutoencoder": "zoo.models.latent_vae",
    "VDM": "zoo.models.vdm",
}
"""Public class name -> module that defines it."""

__all__ = [*MODULES]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES])
