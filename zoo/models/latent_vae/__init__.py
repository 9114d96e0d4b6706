"""Hierarchical VAE over the latents of an autoencoder (Luhman & Luhman 2023), and the autoencoders it stands on."""

from zoo.models.latent_vae.autoencoder import KLAutoencoder, VQAutoencoder
from zoo.models.latent_vae.hierarchy import HierarchicalVAE
from zoo.models.latent_vae.model import LatentVAE, PixelSpace
from zoo.models.latent_vae.pixels import CausalPixelHead, PixelHead
from zoo.models.latent_vae.upsampler import UpsamplingStack

__all__ = [
    "CausalPixelHead",
    "HierarchicalVAE",
    "KLAutoencoder",
    "LatentVAE",
    "PixelHead",
    "PixelSpace",
    "UpsamplingStack",
    "VQAutoencoder",
]
