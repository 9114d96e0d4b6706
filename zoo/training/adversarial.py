"""`LitAutoencoder`: trains the first stages of latent models, with a perceptual and a patch-adversarial loss.

Rombach et al. 2022, section 3.1; Esser et al. 2021 ("Taming Transformers"), equation 7 for the adaptive weight. It has
two optimisers, so it accumulates gradients and steps them itself; everything else follows the rules of
`zoo.training.rules`, as `LitLikelihood` does. Letters: B batch, C channels, H x W image size.
"""

from __future__ import annotations

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
from zoo.training.optimisers import make_optimiser
from zoo.training.rules import Batch, Limits, TrainingRules, require
from zoo.training.schedules import Schedule, ScheduleName

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
    ratio: Tensor = by_reconstruction.norm() / (by_adversary.norm() + 1e-4)
    return ratio.clamp(0.0, LARGEST_WEIGHT).detach()


def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of a module that DDP does not know by their means over all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


class ReconstructionGrids(ImageGrids):
    """Writes validation images beside what the first stage makes of them."""

    @override
    def _draw(self, pl_module: Any) -> dict[str, Tensor]:
        assert self._images is not None
        pairs = torch.stack([self._images, pl_module.network.reconstruct(self._images)], dim=1)  # (N, 2, C, H, W)
        return {"reconstructions": tile(pairs.flatten(0, 1).cpu(), columns=8)}


class LitAutoencoder(TrainingRules):
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
        warmup_steps: steps over which the rate rises linearly from 0.
        schedule: constant, cosine or cycle; see `zoo.training.schedules.Schedule`.
        min_lr: rate at the end of the cosine.
        decay_start: step at which the cosine begins.
        decay_steps: its length in steps.
        ema_decay: decay of the averaged weights of the autoencoder; 0 switches averaging off.
        clip_norm: largest gradient norm of the autoencoder; larger ones are scaled down. None: no clipping.
        skip_norm: see `LitLikelihood`. A skipped update of the autoencoder skips the discriminator's too.
        skip_start: step from which `skip_norm` applies.
        max_consecutive_skips: see `LitLikelihood`.
        grid_every: a grid of reconstructions is written at the first validation after this many further steps; 0: none.
        grid_images: images in a grid.
    """

    network: FirstStage

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
        warmup_steps: int = 0,
        schedule: ScheduleName = "constant",
        min_lr: float = 0.0,
        decay_start: int = 0,
        decay_steps: int | None = None,
        ema_decay: float = 0.0,
        clip_norm: float | None = None,
        skip_norm: float | None = None,
        skip_start: int = 0,
        max_consecutive_skips: int = 100,
        grid_every: int = 1000,
        grid_images: int = 16,
    ) -> None:
        if not (isinstance(network, FirstStage) and network.trains):
            raise UserError(
                f"model.network: {type(network).__name__} is no first stage; use KLAutoencoder or VQAutoencoder"
            )
        require(lr > 0, "lr", lr, "a number above 0")
        super().__init__(network, Limits(clip_norm, skip_norm, skip_start, max_consecutive_skips), ema_decay)
        self.keep_arguments()
        self.automatic_optimization = False
        self.learning_rate = Schedule(schedule, warmup_steps, decay_start, decay_steps, min_lr / lr)
        self.discriminator = (
            PatchDiscriminator(network.image_channels, disc_width, disc_layers) if disc_weight else None
        )
        self.distance = _distance(perceptual, perceptual_weight)

    # -- set-up -------------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Keep the discriminator out of DDP, which expects every parameter in every backward pass."""
        super().setup(stage)
        if self.discriminator is not None:
            names = [f"discriminator.{name}" for name, _ in self.discriminator.named_parameters()]
            self._ddp_params_and_buffers_to_ignore = names

    @override
    def on_fit_start(self) -> None:
        """All processes begin with the discriminator of the first."""
        if self.discriminator is not None and self.trainer.world_size > 1:
            for parameter in self.discriminator.parameters():
                torch.distributed.broadcast(parameter.data, 0)

    @override
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for the autoencoder, one for the discriminator."""
        parts = [self.network, *([self.discriminator] if self.discriminator is not None else [])]
        settings = {"lr": self.hparams.lr, "betas": tuple(self.hparams.betas)}
        return [make_optimiser("adam", list(part.parameters()), **settings) for part in parts]

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        """What all training has, and grids of reconstructions."""
        every = self.hparams.grid_every
        return self.common_callbacks(ReconstructionGrids(every, self.hparams.grid_images) if every > 0 else None)

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

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The losses of a batch; with the last batch of an update, a step of both optimisers."""
        images = self.images(batch[0])
        self.begin_update()
        self.seed_noise("train", self.trainer.fit_loop.epoch_loop.total_batch_idx)
        wanted, step = self.logs_this_step(), self.global_step  # an optimiser's step moves the counter
        adversary = self.discriminator if step >= self.hparams.disc_start else None
        reconstruction, parts = self._autoencoder_pass(images, adversary)
        if adversary is not None:
            parts |= self._discriminator_pass(images, reconstruction, adversary)
        if (batch_idx + 1) % self.accumulation == 0 or self.trainer.is_last_batch:
            self._update(self.hparams.lr * self.learning_rate(step), adversary)
        if wanted:
            self.log_training(parts, "loss")

    def _autoencoder_pass(
        self, images: Tensor, adversary: PatchDiscriminator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of the autoencoder; its reconstruction, and what is worth logging."""
        out = self.network.training_pass(images)
        reconstruction_loss = self.reconstruction_loss(images, out.reconstruction)
        loss = reconstruction_loss + self.hparams.penalty_weight * out.penalty
        parts = {"loss": loss.detach(), "reconstruction": reconstruction_loss.detach(), **out.parts}
        parts["l1"] = (images - out.reconstruction).abs().mean().detach()
        if adversary is not None:
            adversary.requires_grad_(False)
            fooled = -adversary(out.reconstruction).mean()
            weight = adaptive_weight(reconstruction_loss, fooled, self.network.last_layer)
            loss = loss + self.hparams.disc_weight * weight * fooled
            adversary.requires_grad_(True)
            parts |= {"adversarial": fooled.detach(), "adaptive_weight": weight}
        self.manual_backward(loss / self.accumulation)
        return out.reconstruction.detach(), parts

    def _discriminator_pass(
        self, images: Tensor, reconstruction: Tensor, adversary: PatchDiscriminator
    ) -> dict[str, Tensor]:
        """Gradients of the discriminator, of this process's images alone."""
        real, fake = adversary(images), adversary(reconstruction)
        loss = hinge(real, fake)
        (loss / self.accumulation).backward()
        return {"disc": loss.detach(), "disc/real": real.mean().detach(), "disc/fake": fake.mean().detach()}

    def _update(self, rate: float, adversary: PatchDiscriminator | None) -> None:
        """A step of both optimisers, or of none."""
        found = self.optimizers()
        counting, *others = found if isinstance(found, list) else [found]  # Lightning counts the steps of the first
        norm, skip = self.guard(counting.optimizer, self.limits.clip_norm, self.skip_norm)
        steps: list[Any] = [counting]
        if adversary is not None:
            average_gradients(adversary)
            skip = self.guard(others[0].optimizer, also=skip)[1]
            counting.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
            steps.append(others[0].optimizer)
        for optimizer in steps:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.finish_update(norm, skip)

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
