"""Checkpoints that are whole or not there, and one at the very end."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from zoo.files import atomic_path
from zoo.torchfiles import safe_torch_load


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed run leaves the previous checkpoint as it was."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    @override
    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, weights_only: Any = None) -> Any:
        """Read one; only tensors and plain types."""
        return safe_torch_load(path)


class RunCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt` up to date: every so many steps, and when training ends, for whatever reason it ends.

    Args:
        dirpath: folder of the run.
        every_n_train_steps: steps between two writes.
    """

    def __init__(self, dirpath: str | Path, every_n_train_steps: int) -> None:
        super().__init__(
            dirpath=dirpath,
            save_top_k=0,
            save_last=True,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        """Write when it is time, or when this was the last step before the time or step limit.

        The end of training would be too late for those: Lightning has then counted the epoch as complete, and a resumed
        run would leave out the rest of it.
        """
        super().on_train_batch_end(trainer, pl_module, *arguments)
        stopping = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if stopping and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the final state, unless it has just been written."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
