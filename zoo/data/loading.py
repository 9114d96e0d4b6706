"""From plans to batches: uint8 (B, C, H, W) and int64 labels (B,)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.packed import PackedSplit
from zoo.data.plans import EvaluationPlan, Request, TrainingPlan
from zoo.errors import UserError

Batch = tuple[Tensor, Tensor]
LabelKind = Literal["class", "augmented", "none"]
PlanT = TypeVar("PlanT", TrainingPlan, EvaluationPlan)


class Reader(Protocol):
    """Reads the batch that a plan asks for; `BatchReader` reads images, `zoo.data.codes.CodeReader` codes."""

    @property
    def digest(self) -> str:
        """Names what is read: equal digests, equal batches for equal requests."""
        ...

    def __len__(self) -> int: ...

    def __getitems__(self, request: Request) -> Batch: ...


class BatchReader(Dataset[Batch]):
    """Carries out requests on one split.

    Args:
        images: the split.
        size: height and width of the windows that requests ask for.
        pad: zero pixels added on every side (MNIST's 28x28 to 32x32: 2).
        labels: "class" from the file; "augmented" = 1 where the request changes the image; "none" = -1.
    """

    def __init__(self, images: PackedSplit, size: tuple[int, int], pad: int = 0, labels: LabelKind = "class") -> None:
        self.images = images
        self.size = size
        self.pad = pad
        self.label_kind = labels

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels of the whole split."""
        return self.images.info.sha256

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """One whole image (C, H, W) and its label."""
        pixels, labels = self.__getitems__(Request(np.array([index])))
        return pixels[0], labels[0]

    def __getitems__(self, request: Request) -> Batch:
        """The whole batch at once: one indexed read, then the request's changes."""
        if request.tops is None or request.lefts is None:
            pixels = self.images.images(request.indices)  # (B, H, W, C)
        else:
            pixels = self.images.crops(request.indices, request.tops, request.lefts, self.size)
        # (B, H, W, C) -> (B, C, H, W), a copy of our own
        planes = apply(np.array(pixels.transpose(0, 3, 1, 2), order="C"), request)
        if self.pad:
            planes = np.pad(planes, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        return torch.from_numpy(planes), torch.from_numpy(self._labels(request))

    def _labels(self, request: Request) -> np.ndarray:
        if self.label_kind == "augmented":
            return request.augmented
        if self.label_kind == "none":
            return np.full(len(request.indices), -1, np.int64)
        return self.images.labels(request.indices)


def apply(planes: np.ndarray, request: Request) -> np.ndarray:
    """Flip, turn, reorder channels and binarise as the request says; (B, C, H, W) uint8 in and out.

    The array may be changed in place. Only the images concerned are touched, plane by plane, so augmented training
    reads about as fast as plain training.
    """
    if request.flips is not None:
        planes[request.flips] = planes[request.flips, :, :, ::-1]
    if request.turns is not None:
        for quarter in (1, 2, 3):
            chosen = np.flatnonzero(request.turns == quarter)
            planes[chosen] = np.rot90(planes[chosen], quarter, axes=(2, 3))
    if request.channels is not None:
        chosen = np.flatnonzero((request.channels != np.arange(planes.shape[1])).any(axis=1))
        planes[chosen] = planes[chosen[:, None], request.channels[chosen]]
    if request.noise_keys is not None:
        for image, key in zip(planes, request.noise_keys, strict=True):
            image[:] = binarise(image.transpose(1, 2, 0), key).transpose(2, 0, 1)  # drawn in the order (H, W, C)
    return planes


def binarise(image: np.ndarray, key: np.uint64) -> np.ndarray:
    """Draw each pixel as 255 with probability value/255, else 0; one key always gives the same draw."""
    uniform = np.random.Generator(np.random.Philox(key=int(key))).integers(0, 255, image.shape, dtype=np.uint8)
    return np.where(uniform < image, np.uint8(255), np.uint8(0))


class _Requests:
    """The requests still to come in the epoch in progress."""

    def __init__(self, plan: TrainingPlan | EvaluationPlan) -> None:
        self.plan = plan
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[Request]:
        return (self.plan.request(self.epoch, batch) for batch in range(self.start, len(self.plan)))

    def __len__(self) -> int:
        return len(self.plan) - self.start


class BatchLoader(Generic[PlanT]):
    """Iterable of batches that Lightning takes as it is and that can be stopped and continued inside an epoch.

    It is deliberately no `DataLoader`: Lightning replaces the sampler of those under distributed strategies, which pads
    evaluation sets with duplicates. `state_dict` and `load_state_dict` are called by Lightning when it writes and
    reads a checkpoint. Reading draws nothing from torch's global random numbers.

    Args:
        reader: carries out requests.
        plan: makes them.
        num_workers: processes that read ahead; 0 reads in this one (faster up to 64x64).
        pin_memory: hand out page-locked tensors.
        same_epoch: read epoch 0 again and again (Lightning's `overfit_batches`).
    """

    def __init__(
        self,
        reader: Reader,
        plan: PlanT,
        num_workers: int = 0,
        pin_memory: bool = False,
        same_epoch: bool = False,
    ) -> None:
        self.reader = reader
        self.plan: PlanT = plan
        self.same_epoch = same_epoch
        self.num_workers = num_workers
        self.batch_size = plan.batch_size
        self.epoch = 0
        self.batches_done = 0
        self._resume_at: tuple[int, int] | None = None  # (epoch, batches done)
        self._requests = _Requests(plan)
        self._workers: DataLoader[Any] | None = None
        if num_workers > 0:
            self._workers = DataLoader(
                reader,  # type: ignore[arg-type]
                batch_sampler=self._requests,  # type: ignore[arg-type]
                collate_fn=_as_is,  # type: ignore[arg-type]
                num_workers=num_workers,
                persistent_workers=True,
                pin_memory=pin_memory,
                generator=torch.Generator(),  # else every start of an epoch draws from the global generator
            )

    @property
    def batch_sampler(self) -> _EpochSetter:
        """Where Lightning looks for something to tell the epoch to."""
        return _EpochSetter(self)

    def __len__(self) -> int:
        return len(self.plan)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.epoch = 0 if self.same_epoch else epoch

    def resume(self, epoch: int, batches_done: int) -> None:
        """Let the next iteration over `epoch` start behind the batches already done."""
        self.epoch, self.batches_done = epoch, batches_done
        self._resume_at = (epoch, batches_done)

    def state_dict(self) -> dict[str, int]:
        """Where this process is: epoch, batches handed out, and the global batch size they had."""
        world_size = self.plan.world_size
        return {
            "epoch": self.epoch,
            "batches_done": self.batches_done,
            "global_batch_size": self.batch_size * world_size,
            "seed": getattr(self.plan, "seed", 0),
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            UserError: taken inside an epoch with another global batch size or seed.
        """
        here = self.state_dict()
        inside = 0 < state_dict["batches_done"] < len(self)
        for key in ("global_batch_size", "seed"):
            if inside and state_dict[key] != here[key]:
                raise UserError(
                    f"checkpoint taken inside an epoch with data {key}={state_dict[key]}, this run has {here[key]}; "
                    "resume with the old value, or from a checkpoint written at the end of an epoch"
                )
        self.resume(state_dict["epoch"], state_dict["batches_done"])

    def __iter__(self) -> Iterator[Batch]:
        """Batches of the epoch set last; everything is decided at the first `next`, not before."""
        start = 0
        if self._resume_at is not None:
            epoch, done = self._resume_at
            start = done if epoch == self.epoch and done < len(self) else 0
            self._resume_at = None
        self._requests.epoch, self._requests.start = self.epoch, start
        self.batches_done = start
        batches = self._workers if self._workers is not None else map(self.reader.__getitems__, self._requests)
        for batch in _one_line_errors(batches):
            self.batches_done += 1
            yield batch


class _EpochSetter:
    """Passes Lightning's `set_epoch` on to the loader (it calls it on `batch_sampler.sampler`)."""

    def __init__(self, loader: BatchLoader[Any]) -> None:
        self.sampler = loader


class EvaluationLoader(BatchLoader[EvaluationPlan]):
    """Every window of a split once and in order; windows are numbered over the whole split, whatever the process."""

    reader: BatchReader

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the batches hold."""
        height, width = self.plan.window.size
        return self.reader.images.channels, height + 2 * self.reader.pad, width + 2 * self.reader.pad

    def indices(self, batch: int) -> np.ndarray:
        """Numbers over the whole split of the windows in this process's batch, (B,) int64."""
        result: np.ndarray = self.plan.samples(batch)
        return result

    def read(self, numbers: Sequence[int] | np.ndarray) -> Batch:
        """The windows with these numbers, at once."""
        return self.reader.__getitems__(self.plan.request_of(np.asarray(numbers, np.int64)))

    def first(self, count: int) -> Batch:
        """The first windows of the split, at most `count`."""
        return self.read(np.arange(min(count, self.plan.num_samples)))

    def spread(self, count: int) -> Batch:
        """Windows at equal distances over the whole split, at most `count`."""
        last = self.plan.num_samples - 1
        return self.read(np.unique(np.linspace(0, last, min(count, last + 1)).astype(np.int64)))


def _one_line_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Errors of worker processes arrive with their traceback in the message; keep the message's own line."""
    try:
        yield from batches
    except UserError as error:
        last = str(error).strip().splitlines()[-1]
        raise UserError(last.removeprefix("zoo.errors.UserError: ")) from error


def _as_is(batch: Batch) -> Batch:
    """`__getitems__` has already collated."""
    return batch
