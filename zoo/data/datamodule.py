"""The LightningDataModule of every model."""

from __future__ import annotations

from typing import Literal

import lightning.pytorch as pl
import torch

from zoo.data.loading import BatchLoader, BatchReader, LabelKind
from zoo.data.locate import locate
from zoo.data.packed import FileInfo, PackedSplit, describe
from zoo.data.plans import EvaluationPlan, TrainingPlan, Window
from zoo.errors import UserError

EVALUATION_BINARISE_SEED = 0  # one fixed draw, the same for everybody


class ImageDataModule(pl.LightningDataModule):
    """8-bit images and integer labels from one prepared file.

    A batch is (uint8 (B, C, H, W), int64 (B,)); the label is -1 where there is none. Training order, windows and
    augmentations follow from (seed, epoch, position) alone, so training continues bit-exactly inside an epoch.
    Evaluation visits every image once and in order on any number of processes.

    Args:
        dataset: "photos" (bundled), a name that `zoo data list` shows, or the path of a prepared .h5 file.
        batch_size: images of a batch, per process.
        crop: side of the square windows: random in training, tiling every image in evaluation; null = whole images.
        eval_batch_size: batch size of evaluation; null = `batch_size`.
        crops_per_image: windows of each image in one training epoch.
        flip: mirror training images with probability 1/2.
        rotate: turn training images by 90, 180 or 270 degrees with probability 1/2 (VDM's augmented rows).
        swap_channels: shuffle the colour channels of training images with probability 1/2.
        labels: "class" from the file, "augmented" = 1 where a training image was changed, "none" = -1.
        binarize: draw 0/255 pixels from grey levels: anew at each use in training, once and fixed in evaluation.
        pad: zero pixels added on every side.
        val_split: split that validation reads.
        test_split: split that `test` and `predict` read.
        limit: at most this many images of every split, for quick looks.
        seed: of the training order.
        num_workers: processes that read ahead; 0 is fastest up to 64x64.
        pin_memory: page-locked batches; null = when a GPU is there.

    Example:
        >>> data = ImageDataModule("photos", batch_size=16, crop=32)
        >>> images, labels = next(iter(data.test_dataloader()))
        >>> tuple(images.shape), images.dtype, labels[0].item()
        ((16, 3, 32, 32), torch.uint8, -1)
    """

    def __init__(
        self,
        dataset: str = "photos",
        batch_size: int = 16,
        crop: int | None = None,
        eval_batch_size: int | None = None,
        crops_per_image: int = 1,
        flip: bool = False,
        rotate: bool = False,
        swap_channels: bool = False,
        labels: LabelKind = "class",
        binarize: bool = False,
        pad: int = 0,
        val_split: Literal["train", "val", "test"] = "val",
        test_split: Literal["train", "val", "test"] = "test",
        limit: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size or 1, 1),
            ("crops_per_image", crops_per_image, 1),
            ("limit", 1 if limit is None else limit, 1),
            ("pad", pad, 0),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise UserError(f"data.{name}={value}: expected a whole number of at least {least}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.crop = crop
        self.eval_batch_size = eval_batch_size or batch_size
        self.crops_per_image = crops_per_image
        self.flip = flip
        self.rotate = rotate
        self.swap_channels = swap_channels
        self.labels = labels
        self.binarize = binarize
        self.pad = pad
        self.val_split = val_split
        self.test_split = test_split
        self.limit = limit
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._info: FileInfo | None = None

    @property
    def info(self) -> FileInfo:
        """Name, variant, splits and digests of the file."""
        if self._info is None:
            self._info = describe(locate(self.dataset))
        return self._info

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the batches hold."""
        _, height, width, channels = next(iter(self.info.splits.values())).shape
        height, width = Window(height, width, self.crop).size
        return channels, height + 2 * self.pad, width + 2 * self.pad

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, augmented, endlessly continuable."""
        images = self._split("train")
        rank, world_size = self._place()
        plan = TrainingPlan(
            len(images),
            self._window(images),
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            crops_per_image=self.crops_per_image,
            flip=self.flip,
            rotate=self.rotate,
            swap_channels=images.channels if self.swap_channels else 0,
            binarise=self.binarize,
        )
        return self._loader(images, plan)

    def val_dataloader(self) -> BatchLoader:
        """Every image of the validation split, in order."""
        return self.evaluation_loader(self.val_split)

    def test_dataloader(self) -> BatchLoader:
        """Every image of the test split, in order."""
        return self.evaluation_loader(self.test_split)

    def predict_dataloader(self) -> BatchLoader:
        """The same as `test_dataloader`."""
        return self.evaluation_loader(self.test_split)

    def evaluation_loader(
        self, split: str, rank: int | None = None, world_size: int | None = None, batch_size: int | None = None
    ) -> BatchLoader:
        """Every image of a split once, in order.

        Args:
            split: "train", "val" or "test".
            rank: this process; null = ask the trainer, then torch.distributed.
            world_size: number of processes.
            batch_size: images of a batch; null = `eval_batch_size`.

        Returns:
            A loader; `loader.plan.global_batch(batch_idx)` numbers batches over the whole split, whatever the number
            of processes.
        """
        images = self._split(split)
        asked = rank is not None and world_size is not None
        if rank is None or world_size is None:
            rank, world_size = self._place()
        seed = EVALUATION_BINARISE_SEED if self.binarize else None
        window = self._window(images)
        plan = EvaluationPlan(len(images), window, batch_size or self.eval_batch_size, rank, world_size, seed)
        if not asked and plan.num_global_batches < world_size:  # Lightning would wait for ever for the idle ones
            raise UserError(
                f"{self.dataset}: split '{split}' has {plan.num_global_batches} batch(es) for {world_size} processes; "
                "lower data.eval_batch_size or the number of devices"
            )
        return self._loader(images, plan)

    def _split(self, name: str) -> PackedSplit:
        return PackedSplit(self.info.path, name, self.limit)

    def _window(self, images: PackedSplit) -> Window:
        return Window(images.height, images.width, self.crop)

    def _loader(self, images: PackedSplit, plan: TrainingPlan | EvaluationPlan) -> BatchLoader:
        training = isinstance(plan, TrainingPlan)
        # evaluation never changes an image, so the flag of augmented training is 0 there
        reader = BatchReader(images, plan.window.size, self.pad, self.labels)
        pin = torch.cuda.is_available() if self.pin_memory is None else self.pin_memory
        overfit = training and self.trainer is not None and self.trainer.overfit_batches > 0
        return BatchLoader(reader, plan, self.num_workers, pin_memory=pin and training, same_epoch=overfit)

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
