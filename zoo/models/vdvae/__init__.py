"""VDVAE: very deep variational autoencoder (Child 2020)."""

from zoo.models.vdvae.layers import DecoderStage, EncoderStage
from zoo.models.vdvae.model import VDVAE, Aids, Architecture, EncoderInput

__all__ = ["VDVAE", "Aids", "Architecture", "DecoderStage", "EncoderInput", "EncoderStage"]
