"""Grids of samples and reconstructions for TensorBoard."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from typing_extensions import override

from zoo.likelihood.latents import SamplePosterior
from zoo.likelihood.levels import from_levels
from zoo.likelihood.model import AncestralModel
from zoo.pictures import grid


def tile(images: Tensor, columns: int | None = None) -> Tensor:
    """Images side by side on a white ground, small ones enlarged, as TensorBoard takes them.

    Args:
        images: (N, C, H, W) uint8.
        columns: images in a row (default: as square as it gets).

    Returns:
        (C, H, W) uint8.
    """
    return torch.from_numpy(grid(images.cpu(), columns)).permute(2, 0, 1)


class ImageGrids(pl.Callback):
    """Writes samples, and validation images above their reconstructions, at some of the validations.

    Stands before `AveragedWeights` in the list of callbacks, so that images come from the averaged weights.

    Args:
        every_n_steps: further training steps before the next grids.
        count: images in each.
    """

    def __init__(self, every_n_steps: int, count: int) -> None:
        self.every_n_steps = every_n_steps
        self.count = count
        self._last_step = 0
        self._images: Tensor | None = None
        self._labels: Tensor | None = None

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep the first images."""
        if batch_idx == 0:
            self._images, self._labels = (part[: self.count] for part in batch)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the grids if it is time."""
        due = trainer.global_step - self._last_step >= self.every_n_steps
        if trainer.sanity_checking or trainer.state.fn != "fit" or not due or not trainer.is_global_zero:
            return
        self._last_step = trainer.global_step
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not boards:
            return
        for name, sheet in self._draw(pl_module).items():
            for board in boards:
                board.experiment.add_image(name, sheet, trainer.global_step)

    @torch.no_grad()
    def _draw(self, pl_module: Any) -> dict[str, Tensor]:
        network = pl_module.network
        pl_module.seed_noise("pictures", 0)  # the same noise each time, so that grids of one run can be compared
        grids = {"samples": tile(network.sample(self.count).cpu())}
        if self._images is not None and isinstance(network, AncestralModel):
            pixels = network.ancestral_pass(SamplePosterior(), self._images, label=self._labels)
            seen = from_levels(pixels.sample(), network.bits)
            pairs = torch.stack([self._images, seen], dim=1).flatten(0, 1)  # (N, 2, C, H, W) -> (2N, C, H, W)
            grids["reconstructions"] = tile(pairs.cpu(), columns=8)
        previews = network.previews(self._images, self._labels)
        return grids | {name: image.cpu() for name, image in previews.items()}

    @override
    def state_dict(self) -> dict[str, Any]:
        """When the last grids were written."""
        return {"last_step": self._last_step}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._last_step = state_dict["last_step"]
