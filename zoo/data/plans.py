"""Which images are read when: pure functions of (seed, epoch, position), so that any run can be continued anywhere.

A plan turns a batch number into a request; a request carries indices, windows and coin flips, and everything random in
it was drawn here. Loader workers hold no random state, so their number changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import UserError


@dataclass(frozen=True)
class Request:
    """One batch to be read; arrays have one entry an image."""

    indices: np.ndarray  # rows of the split
    tops: np.ndarray | None = None  # windows; None = the whole image
    lefts: np.ndarray | None = None
    flips: np.ndarray | None = None  # bool: mirror left and right
    turns: np.ndarray | None = None  # quarter turns, 0..3
    channels: np.ndarray | None = None  # (n, C) order of the colour channels
    noise_keys: np.ndarray | None = None  # uint64: keys of the Bernoulli draws that binarise

    @property
    def augmented(self) -> np.ndarray:
        """1 where a flip, a turn or a channel swap is applied (the flag of VDM's augmented rows)."""
        changed = np.zeros(len(self.indices), bool)
        if self.flips is not None:
            changed |= self.flips
        if self.turns is not None:
            changed |= self.turns > 0
        if self.channels is not None:
            changed |= (self.channels != np.arange(self.channels.shape[1])).any(axis=1)
        return changed.astype(np.int64)


@dataclass(frozen=True)
class Window:
    """Height and width of images and of the square cut out of them (None = whole images)."""

    height: int
    width: int
    crop: int | None = None

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop <= min(self.height, self.width):
            raise UserError(
                f"crop={self.crop} does not fit images of {self.height}x{self.width} pixels; "
                f"choose 1 to {min(self.height, self.width)}, or null for whole images"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        return (self.height, self.width) if self.crop is None else (self.crop, self.crop)

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.size == (self.height, self.width)


@dataclass(frozen=True)
class EvaluationPlan:
    """Every image once and in order; windows tile it row by row.

    Batches are numbered over the whole split and dealt in turn: process r of W takes batches r, r + W, ... Nothing is
    padded, repeated or dropped, and batch g holds the same images whatever W is.
    """

    num_images: int
    window: Window
    batch_size: int
    rank: int = 0
    world_size: int = 1
    binarise_seed: int | None = None

    def __post_init__(self) -> None:
        crop = self.window.crop
        if crop is not None and (self.window.height % crop or self.window.width % crop):
            raise UserError(
                f"crop={crop} does not tile images of {self.window.height}x{self.window.width} pixels, so some pixels "
                "would go unpriced; choose a divisor of both sides, or null for whole images"
            )

    @property
    def tiles_per_image(self) -> int:
        """Windows that one image falls into."""
        height, width = self.window.size
        return (self.window.height // height) * (self.window.width // width)

    @property
    def num_samples(self) -> int:
        """Windows in the whole split."""
        return self.num_images * self.tiles_per_image

    @property
    def num_global_batches(self) -> int:
        """Batches in the whole split, the last one possibly smaller."""
        return -(-self.num_samples // self.batch_size)

    def __len__(self) -> int:
        return len(range(self.rank, self.num_global_batches, self.world_size))

    def global_batch(self, batch: int) -> int:
        """Number over the whole split of this process's batch."""
        return batch * self.world_size + self.rank

    def samples(self, batch: int) -> np.ndarray:
        """Numbers over the whole split of the windows in this process's batch, (B,) int64.

        Raises:
            IndexError: this process has no such batch.
        """
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        first = self.global_batch(batch) * self.batch_size
        return np.arange(first, min(first + self.batch_size, self.num_samples))

    def request(self, epoch: int, batch: int) -> Request:
        """What this process's batch consists of; the same in every epoch."""
        return self.request_of(self.samples(batch))

    def request_of(self, samples: np.ndarray) -> Request:
        """The windows with these numbers over the whole split, whichever process asks."""
        indices, tiles = np.divmod(samples, self.tiles_per_image)
        keys = None
        if self.binarise_seed is not None:
            keys = _noise_keys(self.binarise_seed, 0, samples)
        if self.window.whole:
            return Request(indices, noise_keys=keys)
        height, width = self.window.size
        rows, columns = np.divmod(tiles, self.window.width // width)
        return Request(indices, rows * height, columns * width, noise_keys=keys)


@dataclass(frozen=True)
class TrainingPlan:
    """A fresh order and fresh windows each epoch, drawn from (seed, epoch) alone.

    An epoch visits every image `crops_per_image` times. Process r of W takes batches r, r + W, ... of the epoch's
    batches; the incomplete round at the end is left out so that all processes step equally often.

    Source of the augmentations: google-research/vdm, configs cifar10_aug and cifar10_aug_with_channel (flip with
    probability 1/2, then with 1/2 a quarter, half or three-quarter turn, then with 1/2 a random channel order).
    """

    num_images: int
    window: Window
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    crops_per_image: int = 1
    flip: bool = False
    rotate: bool = False
    swap_channels: int = 0  # number of channels to shuffle, 0 = leave alone
    binarise: bool = False
    _cache: dict[int, Request] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise UserError(
                f"batch_size={self.batch_size} on {self.world_size} process(es) needs more than the "
                f"{self.num_images * self.crops_per_image} training images; lower batch_size or raise crops_per_image"
            )
        if self.rotate and self.window.size[0] != self.window.size[1]:
            raise UserError(f"rotate=true needs square images, these are {self.window.size}; set crop or rotate=false")

    def __len__(self) -> int:
        return self.num_images * self.crops_per_image // (self.batch_size * self.world_size)

    def request(self, epoch: int, batch: int) -> Request:
        """What this process's batch of this epoch consists of."""
        everything = self._epoch(epoch)
        first = (batch * self.world_size + self.rank) * self.batch_size
        here = slice(first, first + self.batch_size)
        fields: dict[str, Any] = vars(everything)
        chosen: dict[str, Any] = {name: None if values is None else values[here] for name, values in fields.items()}
        return Request(**chosen)

    def _epoch(self, epoch: int) -> Request:
        """All draws of one epoch in order of use; kept for the epoch in progress only."""
        if epoch not in self._cache:
            self._cache.clear()
            self._cache[epoch] = self._draw(epoch)
        return self._cache[epoch]

    def _draw(self, epoch: int) -> Request:
        """Draw an epoch. Every field has its own stream, so switching one on leaves the others as they were."""
        count = self.num_images * self.crops_per_image
        order = _stream(self.seed, epoch, "order").permutation(count) % self.num_images
        tops = lefts = flips = turns = channels = keys = None
        if not self.window.whole:
            height, width = self.window.size
            window = _stream(self.seed, epoch, "window")
            tops = window.integers(0, self.window.height - height, count, endpoint=True, dtype=np.int32)
            lefts = window.integers(0, self.window.width - width, count, endpoint=True, dtype=np.int32)
        if self.flip:
            flips = _stream(self.seed, epoch, "flip").random(count) < 0.5
        if self.rotate:
            rotation = _stream(self.seed, epoch, "turn")
            turns = np.where(rotation.random(count) < 0.5, rotation.integers(1, 4, count), 0)
        if self.swap_channels:
            colour = _stream(self.seed, epoch, "channels")
            straight = np.tile(np.arange(self.swap_channels), (count, 1))
            shuffled = colour.permuted(straight, axis=1)
            channels = np.where(colour.random((count, 1)) < 0.5, shuffled, straight)
        if self.binarise:
            keys = _noise_keys(self.seed, epoch + 1, np.arange(count))
        return Request(order, tops, lefts, flips, turns, channels, keys)


def _stream(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """Random stream for one purpose in one epoch; counter-based, so equal on every platform."""
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, epoch, *purpose.encode()]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _noise_keys(seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """One Philox key a position, from (seed, epoch)."""
    base = _stream(seed, epoch, "binarise").integers(0, 2**63, dtype=np.uint64)
    return base + positions.astype(np.uint64)
