"""Checkpoints that are whole or not there."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.torchfiles import safe_torch_load


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed run leaves the previous checkpoint as it was."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            UserError: if it cannot be written, a full disk for example; what stood there before is untouched.
        """
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError of its own archive
            reason = error.strerror or error if isinstance(error, OSError) else "the disk is full or has gone"
            raise UserError(
                f"{path}: cannot be written ({reason}); a checkpoint that was there before is whole: make room and "
                "continue with --ckpt_path last"
            ) from error

    @override
    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, weights_only: Any = None) -> Any:
        """Read one; only tensors and plain types."""
        return safe_torch_load(path)
