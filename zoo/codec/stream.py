"""A whole stream of images to bytes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from zoo.codec.bits_back import Plan, encode_batch
from zoo.codec.container import LARGEST_BATCH, Entry, Header, pack
from zoo.codec.environment import environment, is_portable, repeatable
from zoo.codec.plan import choose_plan, fresh_stack, next_batch
from zoo.codec.stack import Stack, StackError, Words, keystream
from zoo.codec.tiles import PixelChecksum, Pixels, cut, even_batches, spread, tile_sizes
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, from_levels, to_levels

Progress = Callable[[int, int], None]
_WHITENING_COUNTER = 1 << 61
_SAMPLE = 8  # tiles that the plan is chosen on


@dataclass(frozen=True)
class Image:
    """A file to encode: one picture, or a stack of them.

    Attributes:
        entry: name, shape and everything else that is given back.
        load: reads the pixels of its n-th picture, (C, H, W) uint8 with the model's C.
    """

    entry: Entry
    load: Callable[[int], Pixels]


@dataclass(frozen=True)
class Report:
    """What a stream cost.

    Attributes:
        dims: channels times pixels of all images, padding not counted.
        file_bytes: size of the file.
        initial_bits: seeded bits borrowed by the first batch and contained in the file.
        bound_bits: the bound at the coded latents, rate plus distortion: what `net_bits` should come to.
        chained: bits-back, or rounded latents.
    """

    dims: int
    file_bytes: int
    payload_bits: int
    initial_bits: int
    bound_bits: float
    chained: bool

    @property
    def gross(self) -> float:
        """Bits/dim of the whole file: header, check sums and initial bits included."""
        return 8.0 * self.file_bytes / self.dims

    @property
    def net(self) -> float:
        """Bits/dim of the payload without the initial bits, the number to hold against the bound."""
        return (self.payload_bits - self.initial_bits) / self.dims

    @property
    def bound(self) -> float:
        """Bits/dim of the bound at the coded latents."""
        return self.bound_bits / self.dims


@dataclass(frozen=True)
class Options:
    """How a stream is coded.

    Attributes:
        batch_size: most tiles at once, at most 256.
        chained: bits-back (True), rounded latents (False), or whatever is predicted to be smaller (None).
        seed: of the shared generator.
        horizon: length in tiles of the stream that the plan is chosen for; None: of this one. The longer, the less do
            initial bits count, and the closer is the net length to the bound; the first batch is then a full one.
    """

    batch_size: int = 64
    chained: bool | None = None
    seed: int = 0
    horizon: int | None = None


def encode(
    model: AncestralModel,
    identity: bytes,
    images: Sequence[Image],
    options: Options = Options(),
    progress: Progress | None = None,
) -> tuple[bytes, Report]:
    """Encode images with a model. The same images give the same bytes.

    Args:
        model: in eval mode; images must hold no more than its `bits`.
        identity: 12 bytes that name architecture and weights.
        images: in the order in which they are to be found again; loaded one at a time.
        options: batches, kind of plan, seed.
        progress: called with (tiles done, tiles in all).

    Returns:
        The bytes of the file, and what they cost.

    Raises:
        UserError: if the images do not fit the model, or the model cannot code.
    """
    if not images:
        raise UserError("no images to encode; name at least one file")
    if not 1 <= options.batch_size <= LARGEST_BATCH:
        raise UserError(f"batch_size {options.batch_size}: expected 1 to {LARGEST_BATCH}")
    with repeatable(options.seed), as_user_errors("encode"):
        return _Encoder(model, images, options).run(identity, progress)


class _Encoder:
    """One stream in the making."""

    def __init__(self, model: AncestralModel, images: Sequence[Image], options: Options) -> None:
        self.model, self.images, self.options = model, images, options
        self.tile = model.image_shape[1:]
        self.sizes = [s for i in images for _ in range(i.entry.count) for s in tile_sizes(*i.entry.size, self.tile)]
        self.checksum = PixelChecksum()
        self.batches: list[int] = []
        self.bound = 0.0

    def run(self, identity: bytes, progress: Progress | None) -> tuple[bytes, Report]:
        """Choose a plan, push every batch, and put the file together."""
        total = len(self.sizes)
        first = 1 if self.options.horizon is None else min(self.options.batch_size, total)
        plan = self._plan(first)
        tiles, stack, per_tile, done, x = self._tiles(), fresh_stack(plan.seed), 0, 0, None
        sizes = iter(even_batches(total, self.options.batch_size))
        while done < total:
            if not plan.chained:
                count = next(sizes)
            elif done == 0:
                count = first
            else:
                count = next_batch(stack, per_tile, total - done, self.options.batch_size)
                whiten(stack, plan.seed, len(self.batches), per_tile * count)
            x = torch.from_numpy(np.stack([next(tiles) for _ in range(count)]))
            real = self.sizes[done : done + count]
            self.bound += encode_batch(self.model, x, real, plan, len(self.batches), stack).bound
            if done == 0 and plan.chained:
                per_tile = -(-max(1, stack.supplied + 1 - stack.lowest) // count)
            self.batches.append(count)
            stack.settle()
            done += count
            if progress is not None:
                progress(done, total)
        assert x is not None
        return self._file(identity, plan, stack, per_tile, x)

    def _file(self, identity: bytes, plan: Plan, stack: Stack, per_tile: int, last: Tensor) -> tuple[bytes, Report]:
        payload, initial = _trim(stack)
        here = environment()
        header = Header(
            model=identity,
            shape=self.model.image_shape,
            bits=self.model.bits,
            chained=plan.chained,
            batches=[number for size, run in groupby(self.batches) for number in (size, len(list(run)))],
            seed=plan.seed,
            whitened=per_tile,
            steps=self.model.steps or 0,
            profile=plan.profile.to_bytes(),
            checksum=self.checksum.digest(),
            first=batch_check(last),
            environment=here,
            entries=[image.entry for image in self.images],
        )
        data = pack(header, payload, is_portable(here))
        dims = sum(self.model.image_shape[0] * height * width for height, width in header.sizes)
        return data, Report(dims, len(data), 32 * len(payload), 32 * initial, self.bound, plan.chained)

    def _plan(self, first: int) -> Plan:
        """The plan, chosen on tiles from all over the stream."""
        chosen = spread(len(self.sizes), _SAMPLE)
        x = torch.from_numpy(np.stack(list(self._some_tiles(chosen))))
        length = self.options.horizon or len(self.sizes)
        real = [self.sizes[number] for number in chosen]
        return choose_plan(self.model, x, real, length, self.options.chained, self.options.seed, first)

    def _some_tiles(self, chosen: list[int]) -> Iterator[Pixels]:
        """Tiles by number, every picture among them loaded once."""
        start, wanted = 0, list(chosen)
        for image in self.images:
            count = len(tile_sizes(*image.entry.size, self.tile))
            for frame in range(image.entry.count):
                here = [number - start for number in wanted if number < start + count]
                if here:
                    tiles = list(cut(_checked(self.model, image, frame), self.tile))
                    yield from (tiles[number] for number in here)
                    wanted = wanted[len(here) :]
                start += count

    def _tiles(self) -> Iterator[Pixels]:
        """Tiles of all pictures, each picture checked, summed and loaded only when its turn comes."""
        number = 0
        for image in self.images:
            for frame in range(image.entry.count):
                pixels = _checked(self.model, image, frame)
                self.checksum.add(number, pixels)
                yield from cut(pixels, self.tile)
                number += 1


def _checked(model: AncestralModel, image: Image, frame: int) -> Pixels:
    """Pixels of a picture, if the model can code them."""
    pixels, expected = image.load(frame), (model.image_shape[0], *image.entry.size)
    if pixels.shape != expected or pixels.dtype != np.uint8:
        raise UserError(f"{image.entry.name}: expected uint8 pixels {expected}, got {pixels.shape}")
    tensor = torch.from_numpy(pixels)
    if model.bits < 8 and not torch.equal(from_levels(to_levels(tensor, model.bits), model.bits), tensor):
        raise UserError(
            f"{image.entry.name}: has more than the {model.bits} bits this model codes; "
            "use an 8-bit checkpoint, or --reduce-bits to code the reduced image"
        )
    return pixels


def batch_check(x: Tensor) -> bytes:
    """4 bytes that tell whether a batch (B, C, H, W) uint8, padding included, was decoded right."""
    return hashlib.blake2b(x.contiguous().numpy().tobytes(), digest_size=4).digest()


def whiten(stack: Stack, seed: int, batch: int, words: int) -> None:
    """Scramble the top words before a batch, all but the very last; doing it twice undoes it.

    The next batch pops the bits that the batch before pushed for its latents under the prior. Those follow the
    aggregate posterior, so without scrambling an unusual latent of one image becomes an unusual one of the next.
    """
    stack.scramble(lambda count: keystream(seed, _WHITENING_COUNTER + batch, count), words)


def _trim(stack: Stack) -> tuple[Words, int]:
    """The contents without the seeded words at the bottom that no pop reached, and how many of them remain."""
    untouched = stack.untouched
    return stack.words()[untouched:], stack.supplied - untouched


@contextlib.contextmanager
def as_user_errors(what: str) -> Iterator[None]:
    """Failures of the coder as one line."""
    try:
        yield
    except StackError as error:
        raise UserError(f"{what}: {error}; wrong checkpoint, damaged file or other floats on this machine") from error
