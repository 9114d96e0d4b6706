"""When a run saves itself: now and then, when told to stop, at its end, and when validation is better than ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from typing_extensions import override

from zoo.recipes.folder import BEST, LAST
from zoo.recipes.signals import Notice, Stop

MONITORED = {"val/bits_per_dim": 1.0, "val/bits_per_code": 1.0, "val/l1": 1.0}
"""What a validation is judged by, whichever the model logs; smaller is better."""


class RunCheckpoint(Checkpoint):
    """Keeps `last.ckpt` up to date, and ends the run when a signal asks for it.

    A checkpoint is written before the next batch begins: then everything that belongs to the step before, its numbers
    in the log and its validation included, is done.

    Args:
        folder: of the run.
        every: steps between two writes.
        keep_every: steps between two checkpoints that stay (`step-1000.ckpt`); 0 keeps none.
        export: writes the averaged weights to a file, for `best.safetensors`; None keeps no best.
    """

    def __init__(
        self, folder: Path, every: int, keep_every: int = 0, export: Callable[[Path], object] | None = None
    ) -> None:
        self.folder, self.every, self.keep_every, self.export = Path(folder), every, keep_every, export
        self.notice = Notice()
        self.best = float("inf")
        self._saved_at = 0

    # -- state --------------------------------------------------------------------------------------------------------

    @override
    def state_dict(self) -> dict[str, float]:
        """The best validation so far."""
        return {"best": self.best}

    @override
    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Take it up again."""
        self.best = state_dict["best"]

    # -- saving -------------------------------------------------------------------------------------------------------

    @override
    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals."""
        self.notice.listen()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals, also where the trainer has put its own handlers."""
        self.notice.listen()
        self._saved_at = trainer.global_step

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Write what is due, and stop if asked to."""
        step = trainer.global_step
        signum = self.notice.requested(trainer.world_size)
        if step != self._saved_at:
            if signum or step % self.every == 0:
                self._save(trainer, LAST)
            if self.keep_every and step % self.keep_every == 0:
                self._save(trainer, f"step-{step}.ckpt")
            self._saved_at = step
        if signum:
            raise Stop(signum)

    @override
    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop inside a long validation too; it is done again when the run continues."""
        if self.notice.alone and trainer.world_size == 1 and trainer.state.fn == "fit":
            if not trainer.sanity_checking and trainer.global_step:
                self._save(trainer, LAST)
            raise Stop(self.notice.alone)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are better than ever."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = [float(trainer.callback_metrics[name]) for name in MONITORED if name in trainer.callback_metrics]
        if found and found[0] < self.best:
            self.best = found[0]
            if self.export is not None and trainer.is_global_zero:
                self.export(self.folder / BEST)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the final state."""
        self._save(trainer, LAST)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Signals mean again what they meant before."""
        self.notice.ignore()

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        """Write a checkpoint, after the logs that belong before it."""
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.folder / name)
