"""Exponential moving average of the weights: validated, sampled from and saved in place of the raw weights."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

CURRENT = "current_model_state"
"""Key of the raw weights in a checkpoint; `state_dict` holds the averaged ones."""


class AveragedWeights(pl.Callback):
    """Keeps `average = decay * average + (1 - decay) * weight` over the parameters of `network` that are trained.

    As in the official codes of VDVAE, Efficient-VDVAE and VDM the average starts from the initial weights, has no bias
    correction, and stands still on skipped updates. Neither buffers nor frozen parameters are averaged: the codebook
    statistics of VQ-VAE-2 are averages already, and a frozen first stage is its own average.

    Validation and samples use the average; a checkpoint carries it as `state_dict`, so everything that reads a
    checkpoint gets it, and the raw weights beside it for resuming. When fitting ends, the module holds the average.

    Args:
        decay: share of the old average kept at each update.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] | None = None
        self._weights: list[nn.Parameter] = []
        self._steps_seen = 0
        self._swapped = False

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the weights of the module, unless a checkpoint was loaded."""
        trained = _trained(pl_module)
        before = self._average or {}
        self._average = {name: before.get(name, p.detach()).to(p.device, copy=True) for name, p in trained.items()}
        self._weights = list(trained.values())

    @override
    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Follow the weights after every optimiser step that was not skipped."""
        if trainer.global_step == self._steps_seen or self._average is None:
            return  # gradients are still being accumulated
        self._steps_seen = trainer.global_step
        skipped: Tensor = pl_module.get_buffer("update_skipped")
        share = (1.0 - self.decay) * (1.0 - skipped)  # on the device: nobody waits for it
        averages, weights = list(self._average.values()), list[Tensor](self._weights)
        torch._foreach_lerp_(averages, weights, [share] * len(averages))

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the module's weights and the average, in place."""
        if self._average is None:
            return
        for average, weight in zip(self._average.values(), self._weights, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
        self._swapped = not self._swapped

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        if not self._swapped:
            self._swap()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the raw weights."""
        if self._swapped:
            self._swap()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An error inside validation must not leave the weights exchanged."""
        if self._swapped:
            self._swap()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the average in the module when fitting has ended."""
        if stage == "fit" and self._average is not None:
            if not self._swapped:
                self._swap()
            self._average, self._weights, self._swapped = None, [], False

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average where readers look and the raw weights beside it."""
        if self._average is None:
            return
        held = checkpoint["state_dict"]
        other = {**held, **self._average}
        # The module holds the raw weights, except while the average is validated.
        checkpoint[CURRENT], checkpoint["state_dict"] = (other, held) if self._swapped else (held, other)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the average and give the module its raw weights back."""
        names = _trained(pl_module)
        self._average = {name: t.clone() for name, t in checkpoint["state_dict"].items() if name in names}
        self._steps_seen = checkpoint["global_step"]
        if CURRENT in checkpoint:
            pl_module.load_state_dict(checkpoint[CURRENT])


def _trained(pl_module: pl.LightningModule) -> dict[str, nn.Parameter]:
    """Parameters of the network that take part in training, by their names in a checkpoint."""
    named = pl_module.get_submodule("network").named_parameters(prefix="network")
    return {name: parameter for name, parameter in named if parameter.requires_grad}
