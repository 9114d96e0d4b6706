"""`LitLikelihood`: the one LightningModule that trains and prices every model of the zoo."""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from zoo.likelihood.model import LikelihoodModel
from zoo.likelihood.terms import LikelihoodTerms, Objective, nats_to_bits_per_dim
from zoo.training.grids import ImageGrids
from zoo.training.optimisers import make_optimiser
from zoo.training.rules import Batch, Limits, TrainingRules, require
from zoo.training.schedules import Schedule, ScheduleName


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


class LitLikelihood(TrainingRules):
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
        max_consecutive_skips: stop with an error after this many skipped updates in a row, looked at whenever numbers
            are logged.
        grid_every: sample and reconstruction grids are written at the first validation after this many further steps;
            0 writes none.
        grid_images: images in a grid.
        compile: compile with `torch.compile` what the network says may be compiled.
        compile_mode: `reduce-overhead` launches whole graphs, which pays on GPUs.
        channels_last: keep weights and activations of convolutions in the channels-last layout.
        recompute: drop activations inside blocks until the backward pass; less memory, about a third more time.
        tf32: let CUDA devices round the factors of float32 products to 10 bits while training, as the official codes of
            2020 to 2022 did; prices are never computed so.
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
        compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default",
        channels_last: bool = False,
        recompute: bool = False,
        tf32: bool = True,
    ) -> None:
        require(lr > 0, "lr", lr, "a number above 0")
        limits = Limits(clip_norm, skip_norm, skip_start, max_consecutive_skips)
        super().__init__(network, limits, ema_decay, recompute, tf32)
        self.keep_arguments()
        self.learning_rate = Schedule(schedule, warmup_steps, decay_start, decay_steps, min_lr / lr)
        self._objective = network.objective

    # ------------------------------------------------------------------------------------------------------------------
    # Set-up

    @override
    def configure_optimizers(self) -> Any:
        """Optimiser over all parameters, and the schedule, which advances at every step, skipped or not."""
        hparams = self.hparams
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        settings = {"lr": hparams.lr, "betas": tuple(hparams.betas), "eps": hparams.eps}
        optimizer = make_optimiser(hparams.optimizer, parameters, weight_decay=hparams.weight_decay, **settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate.__call__)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        """What all training has, and grids of images."""
        every = self.hparams.grid_every
        return self.common_callbacks(ImageGrids(every, self.hparams.grid_images) if every > 0 else None)

    @override
    def setup(self, stage: str) -> None:
        """Choose layout and compilation."""
        super().setup(stage)
        if self.hparams.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.hparams.compile and stage == "fit":
            self._compile()

    def _compile(self) -> None:
        """Compile the parts that the network names, or its objective as a whole."""
        import torch._inductor.config as inductor

        inductor.fallback_random = True  # the same noise as without compilation
        if not self.network.compiled:
            self._objective = torch.compile(self.network.objective, mode=self.hparams.compile_mode)
        for name in self.network.compiled:
            self.network.get_submodule(name).compile(mode=self.hparams.compile_mode)

    # ------------------------------------------------------------------------------------------------------------------
    # Steps

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective of a batch, in nats per dimension."""
        x, label = batch
        self.begin_update()
        self.seed_noise("train", self.trainer.fit_loop.epoch_loop.total_batch_idx)
        step = torch.full((), self.trainer.global_step, device=x.device)  # a number would be compiled in
        objective = self._objective(x, label, step)
        if self.logs_this_step():
            self._log_objective(objective)
        return objective.loss

    def _log_objective(self, objective: Objective) -> None:
        values = {name: torch.as_tensor(part).detach().float().mean() for name, part in objective.parts.items()}
        values["loss"] = objective.loss.detach()
        values["lr"] = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        shown = "loss"
        if objective.terms is not None:
            values |= bits_per_dim_log(objective.terms)
            shown = unit_name(objective.terms.priced)
        self.log_training(values, shown)

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean price of the validation split; the split's exact record is made by `zoo test`."""
        x, label = batch
        self.seed_noise("validate", batch_idx)
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
        self.seed_noise("predict", batch_idx)
        return self.network.terms(x, label)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, or have the optimiser change neither weights nor moments."""
        clip_norm = self.limits.clip_norm if self.limits.clip_norm is not None else gradient_clip_val
        self.finish_update(*self.guard(optimizer, clip_norm, self.skip_norm))
