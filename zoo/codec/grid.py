"""Continuous latents as integers: a grid relative to the prior, the same on both sides of the codec.

At a Gaussian site the coder uses z = mean_p + std_p * step * k with whole k. Under the prior, k is a Gaussian around 0
of standard deviation 1 / step whatever the network says, so the prior side of the code never depends on network floats.
The step is chosen per channel by the `Profile`, or the channel is *seeded*: both sides draw it from the prior with a
shared generator, and it costs nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.codec.stack import Floats, Stack, StackError, Symbols, keystream
from zoo.likelihood import DiagonalGaussian

REACH = 10.0  # prior standard deviations covered by the grid
SEEDED = 0
_MOST_CHANNELS = 1 << 22  # of all sites together
_STEP_ORIGIN, _STEPS_PER_OCTAVE = 100, 8


def step_code(step: float) -> int:
    """The byte that stands for a step: eighths of an octave, clamped to [2**-12, 2**8]."""
    return int(np.clip(round(_STEPS_PER_OCTAVE * np.log2(step)), -96, 64)) + _STEP_ORIGIN


def code_step(code: int) -> float:
    """The step of a byte written by `step_code`."""
    return float(2.0 ** ((code - _STEP_ORIGIN) / _STEPS_PER_OCTAVE))


@dataclass(frozen=True)
class Profile:
    """Which channels of which site are coded, and how finely.

    Attributes:
        codes: all Gaussian sites in the order of the traversal, one byte per channel: `SEEDED`, or a step code.
    """

    codes: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """Deflated bytes."""
        return zlib.compress(self.codes.tobytes(), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """Read back.

        Raises:
            StackError: if the bytes are damaged.
        """
        inflater = zlib.decompressobj()
        try:
            flat = np.frombuffer(inflater.decompress(data, _MOST_CHANNELS), dtype=np.uint8)
        except zlib.error as error:
            raise StackError("the table of latent steps is damaged") from error
        return cls(flat)

    def site(self, first: int, channels: int) -> NDArray[np.uint8]:
        """The bytes of a site whose channels start at `first`.

        Raises:
            StackError: if the profile was made for another model.
        """
        if first + channels > len(self.codes):
            raise StackError("the table of latent steps does not fit the model")
        return self.codes[first : first + channels]


def normals(seed: int, counter: int, count: int) -> Floats:
    """Standard normals from the shared keystream (Box and Muller 1958)."""
    words = keystream(seed, counter, 2 * count).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((words[:count] + 0.5) / 2.0**32))
    return np.asarray(radius * np.cos(2.0 * np.pi * words[count:] / 2.0**32))


class GridSite:
    """One Gaussian site of one batch on its grid.

    Args:
        prior: (B, Z, ...) the site's prior.
        codes: (Z,) bytes of the profile.
        seed: of the shared generator.
        counter: number of this site and batch in the shared generator.
    """

    def __init__(self, prior: DiagonalGaussian, codes: NDArray[np.uint8], seed: int, counter: int) -> None:
        self.mean = _float64(prior.mean)
        self.std = np.exp(_float64(prior.log_std))
        self.like = prior.mean
        self.active = codes != SEEDED
        shape = (1, len(codes), *([1] * (self.mean.ndim - 2)))
        self.step = np.array([code_step(int(code)) for code in codes]).reshape(shape)  # (1, Z, 1, 1)
        finest = self.step[:, self.active].min() if self.active.any() else 1.0
        self.reach = int(np.ceil(REACH / finest))
        self.seed, self.counter = seed, counter

    def prior_params(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the coded k under the prior, flat: 0 and 1 / step."""
        std = np.broadcast_to(1.0 / self.step, self.mean.shape)[:, self.active].ravel()
        return np.zeros_like(std), np.ascontiguousarray(std)

    def posterior_params(self, posterior: DiagonalGaussian) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the coded k under the posterior, flat, in grid units."""
        unit = self.std * self.step
        mean = ((_float64(posterior.mean) - self.mean) / unit)[:, self.active].ravel()
        std = (np.exp(_float64(posterior.log_std)) / unit)[:, self.active].ravel()
        return np.clip(mean, -self.reach, self.reach), np.clip(std, 1e-3, self.reach)

    def value(self, k: Symbols) -> Tensor:
        """The latent of the coded k: (B, Z, ...) in the type of the prior."""
        standard = np.zeros(self.mean.shape)
        batch, rest = self.mean.shape[0], self.mean.shape[2:]
        coded = k.astype(np.float64).reshape(batch, int(self.active.sum()), *rest)
        standard[:, self.active] = coded * self.step[:, self.active]
        if not self.active.all():
            seeded = (batch, int((~self.active).sum()), *rest)
            drawn = normals(self.seed, self.counter, int(np.prod(seeded)))
            standard[:, ~self.active] = drawn.reshape(seeded)
        z = self.mean + self.std * standard
        return torch.from_numpy(z).to(self.like)


def _float64(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


# -- posterior windows ------------------------------------------------------------------------------------------------
# The coder gives every symbol of an alphabet at least 2**-24, so a wide alphabet now and then pops a latent far outside
# the posterior, which ruins its image. Coding the offset from the rounded mean in a window matched to the spread keeps
# such leaks within six standard deviations. Windows come in powers of two, one call of the coder each.


def _windows(mean: Floats, std: Floats, reach: int) -> list[tuple[int, NDArray[np.intp], Floats]]:
    """(half-width, positions, centres) of every window in use, narrow first."""
    octave = np.ceil(np.log2(np.maximum(std, 0.25))).astype(np.int64)
    windows = []
    for value in np.unique(octave):
        half = min(int(np.ceil(6.0 * 2.0 ** float(value))) + 2, reach)
        where = np.flatnonzero(octave == value)
        centre = np.clip(np.rint(mean[where]), -(reach - half), reach - half)
        windows.append((half, where, centre))
    return windows


def pop_posterior(stack: Stack, mean: Floats, std: Floats, reach: int) -> Symbols:
    """Pop grid positions under the posterior: a posterior sample paid for with bits of the stack."""
    k = np.zeros(mean.size, dtype=np.int32)
    for half, where, centre in _windows(mean, std, reach):
        offset = stack.pop_gaussian(half, mean[where] - centre, np.ascontiguousarray(std[where]))
        k[where] = offset + centre.astype(np.int32)
    return k


def push_posterior(stack: Stack, k: Symbols, mean: Floats, std: Floats, reach: int) -> None:
    """Give back the bits that `pop_posterior` took.

    Raises:
        StackError: if a position lies outside its window, so it cannot have come from this posterior.
    """
    for half, where, centre in reversed(_windows(mean, std, reach)):
        offset = k[where] - centre.astype(np.int32)
        if np.abs(offset).max(initial=0) > half:
            raise StackError("a decoded latent does not belong to the posterior of the decoded image")
        stack.push_gaussian(offset, half, mean[where] - centre, np.ascontiguousarray(std[where]))
