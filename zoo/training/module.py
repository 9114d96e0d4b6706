"""`LitLikelihood`: the one LightningModule that trains and prices every model of the zoo."""

import inspect
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from typing_extensions import override

from zoo.errors import UserError
from zoo.likelihood.model import LikelihoodModel
from zoo.likelihood.terms import LikelihoodTerms, Objective, nats_to_bits_per_dim
from zoo.training.averaging import CURRENT, AveragedWeights
from zoo.training.grids import ImageGrids
from zoo.training.progress import Throughput
from zoo.training.schedules import Schedule, ScheduleName

Batch = tuple[Tensor, Tensor]
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax, "adam": torch.optim.Adam}
STATE = "zoo_training"
"""Key in a checkpoint of the counters that belong to no parameter."""


def bits_per_dim_log(terms: LikelihoodTerms) -> dict[str, Tensor]:
    """Every term as a batch mean in bits per dimension (per code where codes are priced).

    Returns:
        `bits_per_dim` (or `bits_per_code`), `rate`, `distortion` and one `rate/<group>` for each group.
    """
    nats = {unit_name(terms.priced): terms.nelbo, "rate": terms.rate, "distortion": terms.distortion}
    nats |= {f"rate/{group}": rate for group, rate in terms.rates.items()}
    return {name: nats_to_bits_per_dim(value.detach().float().mean(), terms.num_dims) for name, value in nats.items()}


def unit_name(priced: str) -> str:
    """Name under which the total is logged: codes of a first stage are never called dimensions."""
    return "bits_per_dim" if priced == "pixels" else "bits_per_code"


class LitLikelihood(pl.LightningModule):
    """Train and price any `LikelihoodModel`; everything model-specific stays in the network.

    The loss is in nats per dimension, which is the scale of the published clip and skip thresholds.

    Args:
        network: the model.
        optimizer: `adamw` decouples the weight decay, `adam` and `adamax` add it to the gradient.
        lr: peak learning rate.
        betas: decay rates of the optimiser's moments.
        eps: added to the denominator of the optimiser.
        weight_decay: applied to every parameter.
        warmup_steps: steps over which the rate rises linearly from 0.
        schedule: constant, cosine or cycle; see `zoo.training.schedules.Schedule`.
        min_lr: rate at the end of the cosine.
        decay_start: step at which the cosine begins.
        decay_steps: its length in steps.
        ema_decay: decay of the averaged weights, which are the ones validated and saved; 0 switches averaging off.
        clip_norm: largest gradient norm in nats/dim; larger gradients are scaled down. None: no clipping.
        skip_norm: an update whose gradient norm, before clipping, reaches this is skipped. Updates with a non-finite
            norm are always skipped. None: only those.
        skip_start: step from which `skip_norm` applies.
        max_consecutive_skips: stop with an error after this many skipped updates in a row.
        grid_every: sample and reconstruction grids are written at the first validation after this many further steps;
            0 writes none.
        grid_images: images in a grid.
        compile: compile the network's objective with `torch.compile`.
        channels_last: keep weights and activations of convolutions in the channels-last layout.
    """

    network: LikelihoodModel

    def __init__(
        self,
        network: LikelihoodModel,
        optimizer: Literal["adamw", "adamax", "adam"] = "adamw",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        schedule: ScheduleName = "constant",
        min_lr: float = 0.0,
        decay_start: int = 0,
        decay_steps: int | None = None,
        ema_decay: float = 0.999,
        clip_norm: float | None = None,
        skip_norm: float | None = None,
        skip_start: int = 0,
        max_consecutive_skips: int = 100,
        grid_every: int = 1000,
        grid_images: int = 16,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self._keep_arguments()
        self._check_arguments()
        self.network = network
        self.learning_rate = Schedule(schedule, warmup_steps, decay_start, decay_steps, min_lr / lr)
        self.skipped_total = 0
        self.consecutive_skips = 0
        self.update_skipped = False
        self.gradient_norm = 0.0
        self.noise_seed = 0
        self._objective = network.objective

    def _keep_arguments(self) -> None:
        """Remember the arguments for the checkpoint, as plain types.

        Under LightningCLI the network arrives as its class path and arguments, which make the checkpoint
        self-describing. In Python it is an object, which a checkpoint must not carry.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attribute 'network' is an instance of")
            self.save_hyperparameters(frame=inspect.currentframe().f_back)
        if isinstance(self.hparams.get("network"), nn.Module):
            self._hparams.pop("network")
            self._hparams_initial.pop("network")

    def _check_arguments(self) -> None:
        for name, holds, expected in (
            ("lr", self.hparams.lr > 0, "a number above 0"),
            ("ema_decay", 0 <= self.hparams.ema_decay < 1, "at least 0 and below 1"),
            ("clip_norm", (self.hparams.clip_norm or 1) > 0, "above 0, or null"),
            ("skip_norm", (self.hparams.skip_norm or 1) > 0, "above 0, or null"),
            ("max_consecutive_skips", self.hparams.max_consecutive_skips > 0, "at least 1"),
        ):
            if not holds:
                raise UserError(f"model.{name}={self.hparams[name]}: expected {expected}")

    # ------------------------------------------------------------------------------------------------------------------
    # Set-up

    @override
    def configure_optimizers(self) -> dict[str, Any]:
        """Optimiser over all parameters, and the schedule, which advances at every step, skipped or not."""
        hparams = self.hparams
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        settings = {"lr": hparams.lr, "betas": tuple(hparams.betas), "eps": hparams.eps}
        if hparams.optimizer != "adamax" and all(type(p.data) is Tensor and p.device.type == "cpu" for p in parameters):
            settings["fused"] = True  # one pass over memory; on other devices torch chooses well by itself
        optimizer = OPTIMIZERS[hparams.optimizer](parameters, weight_decay=hparams.weight_decay, **settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate.__call__)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        """Grids come before averaging, so that they see the averaged weights before they are swapped back."""
        callbacks: list[pl.Callback] = [Throughput()]
        if self.hparams.grid_every > 0:
            callbacks.append(ImageGrids(self.hparams.grid_every, self.hparams.grid_images))
        if self.hparams.ema_decay > 0:
            callbacks.append(AveragedWeights(self.hparams.ema_decay))
        return callbacks

    @override
    def setup(self, stage: str) -> None:
        """Choose layout and compilation; take the seed of the run."""
        self.noise_seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        if self.hparams.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self._objective = self.network.objective
        if self.hparams.compile:
            import torch._inductor.config as inductor

            inductor.fallback_random = True  # the same noise as without compilation
            self._objective = torch.compile(self.network.objective)

    def seed_noise(self, stream: int, index: int) -> None:
        """Give this batch its own random numbers, a function of seed, stream, batch number and process alone.

        A run that is killed and resumed draws what it would have drawn; validating more often changes nothing.
        """
        world = self.trainer.world_size if self._trainer is not None else 1
        rank = self.trainer.global_rank if self._trainer is not None else 0
        words = (self.noise_seed, stream, index * world + rank)
        seed = 0
        for word in words:  # a Weyl-like mixing of the words, enough to keep the streams apart
            seed = (seed ^ word) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019 & 0xFFFFFFFFFFFFFFFF
            seed ^= seed >> 31
        torch.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)

    # ------------------------------------------------------------------------------------------------------------------
    # Steps

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective of a batch, in nats per dimension."""
        x, label = batch
        step = self.trainer.global_step
        self.seed_noise(0, self.trainer.fit_loop.epoch_loop.total_batch_idx)
        objective = self._objective(x, label, step)
        if self._logs_this_step():
            self._log_objective(objective)
        return objective.loss

    def _logs_this_step(self) -> bool:
        every = self.trainer.log_every_n_steps
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def _log_objective(self, objective: Objective) -> None:
        parts: Mapping[str, Any] = objective.parts
        values = {name: torch.as_tensor(value).detach().float().mean() for name, value in parts.items()}
        values["loss"] = objective.loss.detach()
        if objective.terms is not None:
            values |= bits_per_dim_log(objective.terms)
        values["lr"] = torch.tensor(self.optimizers().param_groups[0]["lr"])
        shown = {"bits_per_dim", "bits_per_code"} if objective.terms is not None else {"loss"}
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=name in shown, sync_dist=self.trainer.world_size > 1)

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean price of the validation split; the split's exact record is made by `zoo test`."""
        x, label = batch
        self.seed_noise(1, batch_idx)
        values = bits_per_dim_log(self.network.terms(x, label))
        for name, value in values.items():
            self.log(
                f"val/{name}",
                value,
                on_step=False,
                on_epoch=True,
                prog_bar=name.startswith("bits_per"),
                batch_size=len(x),
                sync_dist=self.trainer.world_size > 1,
            )

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> LikelihoodTerms:
        """The terms of each image of a batch."""
        x, label = batch
        self.seed_noise(2, batch_idx)
        return self.network.terms(x, label)

    # ------------------------------------------------------------------------------------------------------------------
    # Skipped updates

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, or drop it: then the optimiser changes neither weights nor moments.

        Gradients are averaged over processes before this is called, so all of them decide alike.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = self._total_norm(parameters)
        self.gradient_norm = float(norm)
        clip_norm = self.hparams.clip_norm if self.hparams.clip_norm is not None else gradient_clip_val
        self.update_skipped = self._must_skip(self.gradient_norm)
        if self.update_skipped:
            self.skipped_total += 1
            self.consecutive_skips += 1
            for parameter in parameters:
                parameter.grad = None
            return
        self.consecutive_skips = 0
        if clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)

    def _total_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Norm of the whole gradient, also where every process holds only shards of it."""
        whole = self.trainer.strategy.model
        if isinstance(whole, FullyShardedDataParallel):
            return whole.clip_grad_norm_(math.inf)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def _must_skip(self, norm: float) -> bool:
        if not math.isfinite(norm):
            return True
        threshold = self.hparams.skip_norm
        return threshold is not None and self.trainer.global_step >= self.hparams.skip_start and norm >= threshold

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Show the counter, and stop when nothing has been learned for too long."""
        if self.trainer.global_step % max(self.trainer.log_every_n_steps, 1) == 0:
            self.log("train/grad_norm", self.gradient_norm)
            self.log("train/skipped_total", float(self.skipped_total), prog_bar=True)
        if self.consecutive_skips >= self.hparams.max_consecutive_skips:
            raise UserError(
                f"training stopped at step {self.trainer.global_step}: {self.consecutive_skips} updates in a row were "
                f"skipped (last gradient norm {self.gradient_norm:.4g}, skip_norm {self.hparams.skip_norm}); "
                "lower --model.lr or raise --model.skip_norm, and resume from an earlier checkpoint"
            )

    # ------------------------------------------------------------------------------------------------------------------
    # Checkpoints

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counters and the seed."""
        checkpoint[STATE] = {
            "skipped_total": self.skipped_total,
            "consecutive_skips": self.consecutive_skips,
            "noise_seed": self.noise_seed,
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters and the seed up again; without averaging, go on from the raw weights."""
        if self._trainer is not None and self.trainer.state.fn == "fit" and self.hparams.ema_decay == 0:
            checkpoint["state_dict"] = checkpoint.get(CURRENT, checkpoint["state_dict"])
        for name, value in checkpoint.get(STATE, {}).items():
            setattr(self, name, value)
