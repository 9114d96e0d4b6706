"""What TensorBoard says of a run besides its curves: the configuration, the hyper-parameters, what testing found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from typing_extensions import override


class RunNotes(pl.Callback):
    """Writes the configuration as a text when a run begins, its hyper-parameters at the end.

    Args:
        configuration: the complete configuration, as YAML.
    """

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the configuration."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                text = "\n".join(f"    {line}" for line in self.configuration.splitlines())  # markdown: as it stands
                logger.experiment.add_text("configuration", text, trainer.global_step)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the hyper-parameters."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        judged = {name: value for name, value in found.items() if name.startswith("val/bits_per") or name == "val/l1"}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and judged:
                named = {name.replace("val/", "final/"): value for name, value in judged.items()}
                logger.log_hyperparams(flat(dict(pl_module.hparams)), named)


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names; lists as text."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values


def note_test(folder: Path, values: Mapping[str, float], step: int) -> None:
    """Put what `zoo test` found beside the curves of the run; other folders are left alone."""
    if not any(folder.glob("events.out.tfevents.*")):
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    for name, value in values.items():
        writer.add_scalar(f"test/{name}", value, step)
    writer.close()
