"""VQ-VAE-2: quantised autoencoder with priors over its codes."""

from zoo.models.vqvae2.autoencoder import QuantisedAutoencoder
from zoo.models.vqvae2.composite import VQVAE2, HeadConfig
from zoo.models.vqvae2.quantiser import Quantised, VectorQuantiser

__all__ = ["VQVAE2", "HeadConfig", "Quantised", "QuantisedAutoencoder", "VectorQuantiser"]
