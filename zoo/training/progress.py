"""What a running training shows: throughput, and a progress bar or plain lines."""

import math
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from typing_extensions import override

from zoo.progress import duration


def log_interval(trainer: pl.Trainer) -> int:
    """Steps between two logs; 0 for none."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]


class Throughput(pl.Callback):
    """Logs training images per second over all processes, validation and checkpointing left out."""

    def __init__(self) -> None:
        self._images = 0
        self._seconds = 0.0
        self._started = 0.0

    @override
    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it, and log the mean of the steps since the last log."""
        self._seconds += time.perf_counter() - self._started
        self._images += len(batch[0]) * trainer.world_size
        if trainer.global_step % max(log_interval(trainer), 1) == 0 and self._seconds > 0:
            pl_module.log("train/images_per_second", self._images / self._seconds, prog_bar=True)
            self._images, self._seconds = 0, 0.0


_SHORT = {
    "train/bits_per_dim": "bits/dim",
    "train/bits_per_code": "bits/code",
    "train/loss": "loss",
    "train/images_per_second": "images/s",
    "train/skipped_total": "skipped",
    "val/bits_per_dim": "val bits/dim",
    "val/bits_per_code": "val bits/code",
}


def _shown(metrics: dict[str, Any]) -> dict[str, str]:
    """Metrics of the bar under their short names, rounded."""
    shown = {}
    for name, label in _SHORT.items():
        if name in metrics:
            value = float(metrics[name])
            shown[label] = f"{value:.0f}" if label == "skipped" else f"{value:.4g}"
    return shown


class BarProgress(RichProgressBar):
    """A bar with bits/dim, throughput and skipped updates."""

    @override
    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Short names, no run number."""
        return dict(_shown(trainer.progress_bar_metrics))


class LineProgress(pl.Callback):
    """One line now and then, for logs: nothing is overwritten.

    Args:
        seconds: least time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._last = 0.0
        self._began: tuple[float, int] | None = None  # when, and at which step

    def _print(self, trainer: pl.Trainer) -> None:
        parts = "  ".join(f"{label} {value}" for label, value in _shown(trainer.progress_bar_metrics).items())
        if trainer.is_global_zero and parts:
            where = f"step {trainer.global_step}{self._of(trainer)}  epoch {trainer.current_epoch}"
            print(f"{where}  {parts}", flush=True)

    def _of(self, trainer: pl.Trainer) -> str:
        """Steps in total and time left, as far as they are known."""
        total = trainer.estimated_stepping_batches
        if self._began is None or not math.isfinite(total):
            return ""
        started, first = self._began
        done, left = trainer.global_step - first, total - trainer.global_step
        remaining = f", {duration((time.monotonic() - started) * left / done)} left" if done > 0 and left > 0 else ""
        return f" of {int(total)}{remaining}"

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic(), trainer.global_step

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Print if the last line is old enough."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self._print(trainer)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print what validation found."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._print(trainer)


def progress() -> pl.Callback:
    """A bar on a terminal, lines in a file."""
    return BarProgress(leave=False) if sys.stdout.isatty() else LineProgress()
