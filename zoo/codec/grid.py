"""Continuous latents as integers: a grid relative to the prior, the same on both sides of the codec.

At a Gaussian site the coder uses z = mean_p + std_p * step * k with whole k. Under the prior, k is a Gaussian around 0
of standard deviation 1 / step whatever the network says, so the prior side of the code never depends on network floats.
The step is chosen per channel by the `Profile`, or the channel is *seeded*: both sides draw it from the prior with a
shared generator, and it costs nothing.
"""

from __future__ import annotations

import math
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
# 2**(n / 8), written out so that no system's power function decides its last bit
_EIGHTHS = tuple(
    float.fromhex(f"0x1.{digits}p0")
    for digits in (
        "0000000000000", "172b83c7d517b", "306fe0a31b715", "4bfdad5362a27",
        "6a09e667f3bcd", "8ace5422aa0db", "ae89f995ad3ad", "d5818dcfba487",
    )
)  # fmt: skip


def step_code(step: float) -> int:
    """The byte that stands for a step: eighths of an octave, clamped to [2**-12, 2**8]."""
    return int(np.clip(round(_STEPS_PER_OCTAVE * np.log2(step)), -96, 64)) + _STEP_ORIGIN


def code_step(code: int) -> float:
    """The step of a byte written by `step_code`."""
    octave, eighth = divmod(code - _STEP_ORIGIN, _STEPS_PER_OCTAVE)
    return math.ldexp(_EIGHTHS[eighth], octave)


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
    half = (count + 1) // 2
    # torch's functions and not numpy's: numpy takes others on processors with AVX-512, whatever `zoo.portable` asks for
    words = torch.from_numpy(keystream(seed, counter, 2 * half).astype(np.float64))
    radius = ((words[:half] + 0.5) * 2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = words[half:] * (2.0 * math.pi * 2.0**-32)
    return np.asarray(torch.cat([radius * angle.cos(), radius * angle.sin()])[:count].numpy())


class GridSite:
    """One Gaussian site of one batch on its grid.

    Args:
        prior: (B, Z, ...) the site's prior.
        codes: (Z,) bytes of the profile.
        seed: of the shared generator.
        counter: number of this site and batch in the shared generator.
    """

    def __init__(self, prior: DiagonalGaussian, codes: NDArray[np.uint8], seed: int, counter: int) -> None:
        self.prior = prior
        self.active = codes != SEEDED
        self.channels = torch.from_numpy(np.flatnonzero(self.active))
        shape = (1, int(self.active.sum()), *([1] * (prior.mean.ndim - 2)))
        self.step = np.array([code_step(int(code)) for code in codes[self.active]]).reshape(shape)  # (1, Z', 1, 1)
        self.coded = (prior.mean.shape[0], shape[1], *prior.mean.shape[2:])
        self.reach = int(np.ceil(REACH / (self.step.min() if self.step.size else 1.0)))
        self.seed, self.counter = seed, counter

    def prior_params(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the coded k under the prior, flat: 0 and 1 / step."""
        std = np.broadcast_to(1.0 / self.step, self.coded).flatten()
        return np.zeros_like(std), std

    def posterior_params(self, posterior: DiagonalGaussian) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the coded k under the posterior, flat, in grid units."""
        unit = self._coded(self.prior.log_std.double().exp()) * self.step
        mean = ((self._coded(posterior.mean) - self._coded(self.prior.mean)) / unit).ravel()
        std = (self._coded(posterior.log_std.double().exp()) / unit).ravel()
        return np.clip(mean, -self.reach, self.reach), np.clip(std, 1e-3, self.reach)

    def value(self, k: Symbols) -> Tensor:
        """The latent of the coded k: (B, Z, ...) in the type of the prior."""
        mean = self.prior.mean
        standard = np.zeros(mean.shape, dtype=np.float32)
        standard[:, self.active] = k.reshape(self.coded) * self.step
        if not self.active.all():
            seeded = (mean.shape[0], mean.shape[1] - self.coded[1], *mean.shape[2:])
            standard[:, ~self.active] = normals(self.seed, self.counter, int(np.prod(seeded))).reshape(seeded)
        return mean + self.prior.std * torch.from_numpy(standard).to(mean)

    def _coded(self, tensor: Tensor) -> Floats:
        """The coded channels of a site's tensor."""
        return np.asarray(tensor[:, self.channels].detach().to("cpu", torch.float64).numpy())


# -- posterior windows ------------------------------------------------------------------------------------------------
# The coder gives every symbol of an alphabet at least 2**-24, so a wide alphabet now and then pops a latent far outside
# the posterior, which ruins its image. Coding the offset from the rounded mean in a window matched to the spread keeps
# such leaks within six standard deviations. Windows come in powers of two, one call of the coder each.


def _windows(mean: Floats, std: Floats, reach: int) -> list[tuple[int, NDArray[np.intp], Floats]]:
    """(half-width, positions, centres) of every window in use, narrow first."""
    mantissa, octave = np.frexp(np.maximum(std, 0.25))  # the exact ceiling of the binary logarithm
    octave = octave - (mantissa == 0.5)
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
