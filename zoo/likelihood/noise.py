"""Where random numbers come from: torch's global generator, or the image itself.

A price that is to be repeated must not depend on which images share a batch. `ImageNoise` therefore makes every number
a function of the seed, the pass, the index of the image in its split and the place in the model where it is used, by a
counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Nothing is consumed, so
nothing depends on order, batch size or the number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio, modulo 1, cover [0, 1) evenly however many there are."""


class Noise(Protocol):
    """Random numbers for a batch of B images; `site` names the place where they are used."""

    def normal(self, site: str, like: Tensor) -> Tensor:
        """Standard normals with shape (B, ...), dtype and device of `like`."""
        ...

    def uniform(self, site: str, like: Tensor) -> Tensor:
        """Numbers uniform in [0, 1) with shape (B, ...), dtype and device of `like`."""
        ...

    def spread(self, site: str, like: Tensor) -> Tensor:
        """(B,) float64: each uniform in [0, 1), all together evenly spread; B and the device are those of `like`."""
        ...


class GlobalNoise:
    """Numbers of torch's global generator, drawn in the order in which they are asked for."""

    def normal(self, site: str, like: Tensor) -> Tensor:
        """See `Noise`."""
        # not randn_like: the draw must not depend on the memory layout
        return torch.randn(like.shape, dtype=like.dtype, device=like.device)

    def uniform(self, site: str, like: Tensor) -> Tensor:
        """See `Noise`."""
        return torch.rand(like.shape, dtype=like.dtype, device=like.device)

    def spread(self, site: str, like: Tensor) -> Tensor:
        """One draw, moved on by 1/B from image to image."""
        return evenly(torch.rand((), device=like.device), len(like))


def evenly(start: Tensor, n: int) -> Tensor:
    """(n,) float64 numbers, `start` (a scalar in [0, 1)) and those that follow 1/n apart, modulo 1."""
    return (start.double() + torch.arange(n, dtype=torch.float64, device=start.device) / n) % 1.0


GLOBAL_NOISE = GlobalNoise()


class ImageNoise:
    """Numbers that belong to an image: a function of (seed, pass, index of the image, site) and of nothing else.

    Normals are made from uniform numbers by the inverse distribution function, in float64, so that a number is the same
    on every device and in every precision, up to its rounding.

    Args:
        seed: of the evaluation.
        number: of the pass; another pass is another draw.
        indices: (B,) index of each image of the batch in its split.

    Example:
        >>> like = torch.zeros(1, 2)
        >>> batch, alone = ImageNoise(0, 0, [4, 7]), ImageNoise(0, 0, [7])
        >>> torch.equal(batch.normal("z0", like.expand(2, 2))[1:], alone.normal("z0", like))
        True
    """

    def __init__(self, seed: int, number: int, indices: Iterable[int] | Tensor) -> None:
        self.seed, self.number = seed, number
        self.indices = [int(index) for index in indices]

    def normal(self, site: str, like: Tensor) -> Tensor:
        """See `Noise`."""
        eps: Tensor = torch.special.ndtri(self._uniform(site, like))
        return eps.to(like.device, like.dtype)

    def uniform(self, site: str, like: Tensor) -> Tensor:
        """See `Noise`; rounding to the dtype of `like` never reaches 1."""
        below_one = torch.nextafter(torch.ones((), dtype=like.dtype), torch.zeros((), dtype=like.dtype))
        return self._uniform(site, like).to(like.dtype).clamp_max(below_one).to(like.device)

    def spread(self, site: str, like: Tensor) -> Tensor:
        """One draw for all images of the split, moved on by the golden ratio from index to index."""
        self._check(like)
        start = _uniforms(self.seed, self.number, -1, site, 1)[0]
        steps = np.asarray(self.indices, dtype=np.float64) * GOLDEN
        return torch.from_numpy((start + steps) % 1.0).to(like.device)

    def _uniform(self, site: str, like: Tensor) -> Tensor:
        """(B, ...) float64 in (0, 1), on the CPU."""
        self._check(like)
        count = like[0].numel()
        rows = [_uniforms(self.seed, self.number, index, site, count) for index in self.indices]
        return torch.from_numpy(np.stack(rows)).reshape(like.shape)

    def _check(self, like: Tensor) -> None:
        if len(like) != len(self.indices):
            raise ValueError(f"noise for {len(self.indices)} images, asked for {len(like)}")


def _uniforms(seed: int, number: int, index: int, site: str, count: int) -> np.ndarray:
    """`count` float64 numbers in (0, 1), never 0 or 1: the middles of 2^52 equal cells."""
    mask = (1 << 64) - 1
    place = int.from_bytes(hashlib.blake2b(site.encode(), digest_size=8).digest(), "little")
    # The generator counts in the first word; image and site are the others, so no two streams can meet.
    counter = np.array([0, index & mask, place, 0], dtype=np.uint64)
    key = np.array([seed & mask, number & mask], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(count)
    return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
