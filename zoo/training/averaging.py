"""Exponential moving average of the weights: validated, sampled from and saved in place of the raw weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from zoo.errors import UserError

CURRENT = "current_model_state"
"""Key of the raw weights in a checkpoint; `state_dict` holds the averaged ones."""


class AveragedWeights(pl.Callback):
    """Keeps `average = decay * average + (1 - decay) * weight` over all parameters.

    As in the official codes of VDVAE, Efficient-VDVAE and VDM the average starts from the initial weights, has no bias
    correction, and stands still on skipped updates. Buffers are not averaged: the codebook statistics of VQ-VAE-2 are
    averages already, and counters must stay whole.

    Validation and samples use the average; a checkpoint carries it as `state_dict`, so everything that reads a
    checkpoint gets it, and the raw weights beside it for resuming. When fitting ends, the module holds the average.

    Args:
        decay: share of the old average kept at each update.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] | None = None
        self._steps_seen = 0
        self._swapped = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse strategies that cut parameters up: their checkpoints would not hold the average."""
        sharded = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")
        if stage == "fit" and type(trainer.strategy).__name__ in sharded:
            raise UserError(
                "averaged weights need whole parameters on every device; with a sharding strategy such as fsdp set "
                "--model.ema_decay 0"
            )

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the weights of the module, unless a checkpoint was loaded."""
        weights = {name: parameter.data for name, parameter in pl_module.named_parameters()}
        if self._average is None:
            self._average = {name: weight.detach().clone() for name, weight in weights.items()}
        else:
            self._average = {name: self._average[name].to(weight.device) for name, weight in weights.items()}

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Follow the weights after every optimiser step that was not skipped."""
        if trainer.global_step == self._steps_seen:
            return  # gradients are still being accumulated
        self._steps_seen = trainer.global_step
        if getattr(pl_module, "update_skipped", False):
            return
        averages, weights = self._pairs(pl_module)
        torch._foreach_lerp_(averages, weights, 1.0 - self.decay)

    def _pairs(self, pl_module: pl.LightningModule) -> tuple[list[Tensor], list[Tensor]]:
        assert self._average is not None
        names, weights = zip(*((name, parameter.data) for name, parameter in pl_module.named_parameters()), strict=True)
        return [self._average[name] for name in names], list(weights)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange the module's weights and the average, in place."""
        if self._average is None:
            return
        for average, weight in zip(*self._pairs(pl_module), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
        self._swapped = not self._swapped

    @contextmanager
    def averaged(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Within the block the module holds the average."""
        already = self._swapped or self._average is None
        if not already:
            self._swap(pl_module)
        try:
            yield
        finally:
            if not already:
                self._swap(pl_module)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        if not self._swapped:
            self._swap(pl_module)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the raw weights."""
        if self._swapped:
            self._swap(pl_module)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An error inside validation must not leave the weights exchanged."""
        if self._swapped:
            self._swap(pl_module)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the average in the module when fitting has ended."""
        if stage == "fit" and self._average is not None:
            if not self._swapped:
                self._swap(pl_module)
            self._average, self._swapped = None, False

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average where readers look and the raw weights beside it."""
        if self._average is None:
            return
        raw = checkpoint["state_dict"]
        checkpoint[CURRENT] = raw
        checkpoint["state_dict"] = {name: self._average.get(name, tensor) for name, tensor in raw.items()}

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the average and give the module its raw weights back."""
        names = {name for name, _ in pl_module.named_parameters()}
        self._average = {name: t.clone() for name, t in checkpoint["state_dict"].items() if name in names}
        self._steps_seen = checkpoint["global_step"]
        if CURRENT in checkpoint:
            pl_module.load_state_dict(checkpoint[CURRENT])
