"""VDVAE: very deep variational autoencoder (Child 2020)."""

from zoo.models.vdvae.layers import Decoder, DecoderStage, Encoder, EncoderStage
from zoo.models.vdvae.model import VDVAE

__all__ = ["VDVAE", "Decoder", "DecoderStage", "Encoder", "EncoderStage"]
