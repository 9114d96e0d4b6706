"""The LightningDataModule of every model."""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl
import torch

from zoo.data.door import evaluation_loader, this_process, tile_side
from zoo.data.loading import BatchLoader, BatchReader, EvaluationLoader, LabelKind
from zoo.data.locate import locate
from zoo.data.packed import FileInfo, PackedSplit, describe
from zoo.data.plans import TrainingPlan, Window
from zoo.errors import UserError


class ImageDataModule(pl.LightningDataModule):
    """8-bit images and integer labels from one prepared file.

    A batch is (uint8 (B, C, H, W), int64 (B,)); the label is -1 where there is none. Training order, windows and
    augmentations follow from (seed, epoch, position) alone, so training continues bit-exactly inside an epoch.
    Evaluation visits every image once and in order on any number of processes.

    Args:
        dataset: "photos" (bundled), a name that `zoo data list` shows, or the path of a prepared .h5 file.
        batch_size: images of a batch of one process; with `global_batch_size`, at most so many.
        global_batch_size: images of a training step over all processes and accumulated batches; null = what comes out.
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
        global_batch_size: int | None = None,
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
            ("global_batch_size", 1 if global_batch_size is None else global_batch_size, 1),
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
        self.global_batch_size = global_batch_size
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

    def train_dataloader(self) -> BatchLoader[TrainingPlan]:
        """Shuffled, augmented, endlessly continuable."""
        images = self._split("train")
        rank, world_size = self._place()
        window = Window(images.height, images.width, self.crop)
        plan = TrainingPlan(
            len(images),
            window,
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
        reader = BatchReader(images, window.size, self.pad, self.labels)
        pin = torch.cuda.is_available() if self.pin_memory is None else self.pin_memory
        trainer: Any = self.trainer
        overfit = trainer is not None and trainer.overfit_batches > 0
        return BatchLoader(reader, plan, self.num_workers, pin_memory=pin, same_epoch=overfit)

    def val_dataloader(self) -> EvaluationLoader:
        """Every image of the validation split, in order."""
        return self.evaluation_loader(self.val_split)

    def test_dataloader(self) -> EvaluationLoader:
        """Every image of the test split, in order."""
        return self.evaluation_loader(self.test_split)

    def predict_dataloader(self) -> EvaluationLoader:
        """The same as `test_dataloader`."""
        return self.evaluation_loader(self.test_split)

    def evaluation_loader(
        self, split: str, rank: int | None = None, world_size: int | None = None, batch_size: int | None = None
    ) -> EvaluationLoader:
        """Every image of a split once, in order.

        Args:
            split: "train", "val" or "test".
            rank: this process; null = ask the trainer, then torch.distributed.
            world_size: number of processes.
            batch_size: images of a batch; null = `eval_batch_size`.

        Returns:
            A loader; `loader.indices(batch_idx)` numbers images over the whole split, whatever the number of
            processes.
        """
        asked = rank is not None and world_size is not None
        place = (rank, world_size) if rank is not None and world_size is not None else self._place()
        loader = evaluation_loader(
            self._split(split),
            self.crop,
            self.pad,
            self.binarize,
            self.labels,
            batch_size or self.eval_batch_size,
            place,
            self.num_workers,
        )
        batches = loader.plan.num_global_batches
        if not asked and batches < place[1]:  # Lightning would wait for ever for the idle ones
            raise UserError(
                f"{self.dataset}: split '{split}' has {batches} batch(es) for {place[1]} processes; "
                "lower data.eval_batch_size or the number of devices"
            )
        return loader

    def tile_for(self, image_shape: tuple[int, int, int]) -> None:
        """Cut larger images into tiles of a model's size, if no `crop` was chosen.

        Args:
            image_shape: (C, H, W) of the model.

        Raises:
            UserError: the images do not fit the model.
        """
        if self.crop is None and self.image_shape[0] == image_shape[0]:
            _, height, width, _ = next(iter(self.info.splits.values())).shape
            self.crop = tile_side((height, width), image_shape, self.pad, f"data.dataset={self.dataset}")
        if self.image_shape != tuple(image_shape):
            raise UserError(
                f"data.dataset={self.dataset}: images are {self.image_shape} (channels, height, width), the checkpoint "
                f"prices {tuple(image_shape)}; choose another --data.dataset or --data.crop"
            )

    def _split(self, name: str) -> PackedSplit:
        return PackedSplit(self.info.path, name, self.limit)

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return this_process()
