"""`LitAutoencoder`: trains the first stages of latent models, with a perceptual and a patch-adversarial loss.

Rombach et al. 2022, section 3.1; Esser et al. 2021 ("Taming Transformers"), equation 7 for the adaptive weight. The
only module besides `LitLikelihood`: it has two optimisers, so it steps them itself. Letters: B batch, C channels,
H x W image size.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from zoo.errors import UserError
from zoo.likelihood.first_stage import FirstStage
from zoo.likelihood.levels import level_values, to_levels
from zoo.training import perceptual as lpips
from zoo.training.grids import ImageGrids, tile
from zoo.training.module import LitLikelihood
from zoo.training.progress import Throughput

Batch = tuple[Tensor, Tensor]
LARGEST_WEIGHT = 1e4


class PatchDiscriminator(nn.Sequential):
    """Convolutional classifier of overlapping patches (Isola et al. 2017), as latent diffusion uses it.

    Args:
        image_channels: C.
        width: channels of the first layer, doubled by each further one up to eight times.
        layers: layers that halve the resolution.
    """

    def __init__(self, image_channels: int = 3, width: int = 64, layers: int = 3) -> None:
        modules: list[nn.Module] = [nn.Conv2d(image_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for k in range(1, layers + 1):
            after = width * min(2**k, 8)
            stride = 2 if k < layers else 1
            modules += [nn.Conv2d(before, after, 4, stride, padding=1, bias=False), nn.BatchNorm2d(after)]
            modules.append(nn.LeakyReLU(0.2))
            before = after
        super().__init__(*modules, nn.Conv2d(before, 1, 4, padding=1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator, from its outputs on images and reconstructions; scalar."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Ratio of the two losses' gradient norms at the decoder's last kernel, at most 1e4; a constant scalar."""
    by_reconstruction = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)[0]
    by_adversary = torch.autograd.grad(adversarial, last_layer, retain_graph=True)[0]
    return (by_reconstruction.norm() / (by_adversary.norm() + 1e-4)).clamp(0.0, LARGEST_WEIGHT).detach()


class ReconstructionGrids(ImageGrids):
    """Writes validation images beside what the first stage makes of them."""

    @override
    def _draw(self, pl_module: Any) -> dict[str, Tensor]:
        assert self._images is not None
        pairs = torch.stack([self._images, pl_module.network.reconstruct(self._images)], dim=1)  # (N, 2, C, H, W)
        return {"reconstructions": tile(pairs.flatten(0, 1).cpu(), columns=8)}


class LitAutoencoder(pl.LightningModule):
    """Train a first stage.

    Args:
        network: `KLAutoencoder` or `VQAutoencoder` of `zoo.models.latent_vae`.
        lr: learning rate of both Adams (official: 4.5e-6 times the batch over all devices).
        betas: their decay rates.
        bits: depth of the pixels it learns; 8 unless the model above it prices fewer.
        reduction: `sum` adds the reconstruction error over the pixels of an image, as the KL variant does; `mean`
            averages it, as the VQ variant does.
        penalty_weight: weight of the KL (1e-6) or of the codebook loss (1).
        perceptual: backbone of LPIPS. `auto` (`auto-alexnet`): vgg16 (alexnet) if its weights are installed, else none,
            with a message.
        perceptual_weight: weight of LPIPS beside the absolute error.
        disc_weight: factor on the adaptive weight of the adversarial loss; 0 trains without a discriminator.
        disc_start: step at which the discriminator begins.
        disc_layers: see `PatchDiscriminator`.
        disc_width: see `PatchDiscriminator`.
        clip_norm: largest gradient norm of the autoencoder; larger ones are scaled down. None: no clipping.
        warmup_steps: steps over which the rate rises linearly from 0.
        decay_steps: length of a cosine decay to 0; None keeps the rate.
        grid_every: a grid of reconstructions is written at the first validation after this many further steps; 0: none.
        grid_images: images in a grid.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 4.5e-5,
        betas: tuple[float, float] = (0.5, 0.9),
        bits: int = 8,
        reduction: Literal["sum", "mean"] = "sum",
        penalty_weight: float = 1e-6,
        perceptual: Literal["auto", "auto-alexnet", "vgg16", "alexnet", "none"] = "auto",
        perceptual_weight: float = 1.0,
        disc_weight: float = 0.5,
        disc_start: int = 50_001,
        disc_layers: int = 3,
        disc_width: int = 64,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        grid_every: int = 1000,
        grid_images: int = 16,
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attribute 'network' is an instance of")
            self.save_hyperparameters()  # under the command line `network` is its description
        if isinstance(self.hparams["network"], nn.Module):  # in Python an object, which a checkpoint must not carry
            self._hparams.pop("network")
            self._hparams_initial.pop("network")
        self.automatic_optimization = False
        if not (isinstance(network, FirstStage) and network.trains):
            raise UserError(
                f"model.network: {type(network).__name__} is no first stage; use KLAutoencoder or VQAutoencoder"
            )
        self.network = network
        self.discriminator = PatchDiscriminator(network.image_channels, disc_width, disc_layers)
        self.distance = _distance(perceptual, perceptual_weight)
        self.skipped_total = 0
        self.noise_seed = 0

    seed_noise = LitLikelihood.seed_noise  # one rule for both modules

    # -- set-up -------------------------------------------------------------------------------------------------------

    @override
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the autoencoder, one for the discriminator."""
        settings = {"lr": self.hparams.lr, "betas": tuple(self.hparams.betas)}
        parts = (self.network, self.discriminator)
        return [torch.optim.Adam(part.parameters(), **settings) for part in parts]

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        """Throughput, and grids if asked for."""
        grids = [ReconstructionGrids(self.hparams.grid_every, self.hparams.grid_images)]
        return [Throughput(), *(grids if self.hparams.grid_every > 0 else [])]

    @override
    def setup(self, stage: str) -> None:
        """Take the seed of the run."""
        self.noise_seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        warm = min(1.0, (step + 1) / self.hparams.warmup_steps) if self.hparams.warmup_steps else 1.0
        if self.hparams.decay_steps is None:
            return warm
        return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.hparams.decay_steps)))

    def images(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> the levels of the chosen depth on [-1, 1]."""
        return level_values(to_levels(x, self.hparams.bits), self.hparams.bits)

    # -- losses -------------------------------------------------------------------------------------------------------

    def reconstruction_loss(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """Absolute error plus LPIPS at every entry: summed per image or averaged, then the batch mean; scalar."""
        error = (images - reconstruction).abs()
        if self.distance is not None:
            distance = self.distance(images, reconstruction)  # (B,)
            error = error + self.hparams.perceptual_weight * distance[:, None, None, None]
        return error.mean() if self.hparams.reduction == "mean" else error.sum() / len(images)

    @property
    def adversarial(self) -> bool:
        """Whether the discriminator is at work."""
        return self.hparams.disc_weight > 0 and self.global_step >= self.hparams.disc_start

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the autoencoder, then one of the discriminator on the same reconstruction."""
        images = self.images(batch[0])
        self.seed_noise(0, self.trainer.fit_loop.epoch_loop.total_batch_idx)
        for optimizer in self.optimizers(use_pl_optimizer=False):
            for group in optimizer.param_groups:
                group["lr"] = self.hparams.lr * self.rate(self.global_step)
        adversarial = self.adversarial  # the first step below moves the counter
        reconstruction, parts = self._autoencoder_step(images, adversarial)
        if adversarial:
            parts |= self._discriminator_step(images, reconstruction)
        for name, value in parts.items():
            self.log(f"train/{name}", value, prog_bar=name == "loss")

    def _autoencoder_step(self, images: Tensor, adversarial: bool) -> tuple[Tensor, dict[str, Tensor]]:
        out = self.network.training_pass(images)
        reconstruction_loss = self.reconstruction_loss(images, out.reconstruction)
        loss = reconstruction_loss + self.hparams.penalty_weight * out.penalty
        parts = {"loss": loss.detach(), "reconstruction": reconstruction_loss.detach(), **out.parts}
        parts["l1"] = (images - out.reconstruction).abs().mean().detach()
        if adversarial:
            self.discriminator.requires_grad_(False)
            fooled = -self.discriminator(out.reconstruction).mean()
            weight = adaptive_weight(reconstruction_loss, fooled, self.network.last_layer)
            loss = loss + self.hparams.disc_weight * weight * fooled
            self.discriminator.requires_grad_(True)
            parts |= {"adversarial": fooled.detach(), "adaptive_weight": weight}
        optimizer = self.optimizers()[0]
        optimizer.zero_grad()
        self.manual_backward(loss)
        limit = self.hparams.clip_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), math.inf if limit is None else limit)
        if not torch.isfinite(norm):
            self.skipped_total += 1
            optimizer.zero_grad()  # an Adam without gradients changes nothing, but the step is counted
        optimizer.step()
        return out.reconstruction.detach(), parts

    def _discriminator_step(self, images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        real, fake = self.discriminator(images), self.discriminator(reconstruction)
        loss = hinge(real, fake)
        # Without Lightning's wrapper, so that a step of training is one batch and not two.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return {"disc": loss.detach(), "disc/real": real.mean().detach(), "disc/fake": fake.mean().detach()}

    # -- validation ---------------------------------------------------------------------------------------------------

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Absolute error, PSNR and LPIPS of the deterministic reconstruction."""
        images = self.images(batch[0])
        reconstruction = self.network.decode(self.network.latent(images)).clamp(-1.0, 1.0)
        mse = (images - reconstruction).square().mean(dim=(1, 2, 3))  # (B,) on the [-1, 1] axis, whose range is 2
        values: dict[str, Any] = {
            "l1": (images - reconstruction).abs().mean(),
            "psnr": (10.0 * torch.log10(4.0 / mse.clamp_min(1e-10))).mean(),
        }
        if self.distance is not None:
            values["lpips"] = self.distance(images, reconstruction).mean()
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name == "psnr", batch_size=len(images), sync_dist=True)


def _distance(perceptual: str, weight: float) -> lpips.LPIPS | None:
    """The perceptual network, or None where it is switched off or not to be had."""
    if perceptual == "none" or weight == 0:
        return None
    if perceptual.startswith("auto") and not lpips.available():
        rank_zero_info(f"perceptual loss switched off: its weights are not installed ({lpips.INSTALL})")
        return None
    return lpips.LPIPS("alexnet" if perceptual.endswith("alexnet") else "vgg16")
