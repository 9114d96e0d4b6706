"""What an autoencoder offers that a second model is built on: latents, pictures, and a training pass.

It prices nothing. Letters: B batch, C channels, E embedding channels, H x W image size, f downsampling factor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.errors import UserError
from zoo.likelihood.gaussian import DiagonalGaussian


@dataclass(frozen=True)
class FirstStagePass:
    """One training pass through a first stage.

    Attributes:
        reconstruction: (B, C, H, W), not clamped.
        penalty: scalar regulariser: mean over the batch of the KL in nats per image, or the codebook loss.
        parts: further scalars worth logging.
    """

    reconstruction: Tensor
    penalty: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class FirstStage(nn.Module, ABC):
    """An autoencoder of real-valued images in [-1, 1].

    Attributes:
        image_channels: C.
        latent_channels: E.
        factor: f.
        gaussian: whether the encoder gives a Gaussian (`encode`).
        trains: whether `training_pass` works.
        reconstructs: a first stage always reconstructs.
    """

    image_channels: int
    latent_channels: int
    factor: int
    gaussian: bool = False
    trains: bool = False
    reconstructs: bool = True

    @abstractmethod
    def latent(self, images: Tensor) -> Tensor:
        """The deterministic latent that a second stage models: (B, C, H, W) in [-1, 1] -> (B, E, H/f, W/f)."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """(B, E, H/f, W/f) -> image (B, C, H, W), not clamped."""

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """(B, C, H, W) in [-1, 1] -> Gaussian over (B, E, H/f, W/f).

        Raises:
            UserError: the encoder gives no Gaussian (see `gaussian`).
        """
        raise UserError(f"{type(self).__name__} has no Gaussian encoder; use a KLAutoencoder")

    def training_pass(self, images: Tensor) -> FirstStagePass:
        """Reconstruct (B, C, H, W) in [-1, 1] with the regulariser at work.

        Raises:
            UserError: there is nothing to train (see `trains`).
        """
        raise UserError(f"{type(self).__name__} has nothing to train")

    @property
    def last_layer(self) -> Tensor:
        """The kernel that the adaptive adversarial weight compares gradients at."""
        raise UserError(f"{type(self).__name__} has nothing to train")

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """Encode and decode (B, C, H, W) uint8 without noise: uint8 of the same shape."""
