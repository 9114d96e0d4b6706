"""A whole stream of images to bytes and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import torch

from zoo.codec.bits_back import Plan, decode_batch, encode_batch
from zoo.codec.container import Header, pack, unpack
from zoo.codec.grid import Profile
from zoo.codec.plan import choose_plan, fresh_stack, initial_words
from zoo.codec.stack import Stack, StackError, keystream
from zoo.codec.tiles import PixelChecksum, Pixels, Size, assemble, cut, partition, tile_sizes
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, DiagonalGaussian, LatentSite, SamplePrior, from_levels, to_levels

Progress = Callable[[int, int], None]
_WHITENING_COUNTER = 1 << 61


@dataclass(frozen=True)
class Image:
    """An image to encode.

    Attributes:
        name: given back by the decoder.
        size: height and width.
        mode: "R" colour or "L" grey; lower case if it came from an array file.
        load: reads the pixels, (C, H, W) uint8 with the model's C.
    """

    name: str
    size: Size
    mode: str
    load: Callable[[], Pixels]


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


def environment() -> str:
    """What floats depend on: torch, numpy, constriction, threads, vector instructions; short, every file has it."""
    versions = (torch.__version__, np.__version__, version("constriction"))
    return "/".join([*versions, str(torch.get_num_threads()), torch.backends.cpu.get_cpu_capability()])


def _threads_of(environment: str) -> int | None:
    """The number of threads that a file's environment names; None if it names none."""
    fields = environment.split("/")
    return int(fields[3]) if len(fields) > 3 and fields[3].isdecimal() and 0 < int(fields[3]) <= 1024 else None


@contextlib.contextmanager
def repeatable(threads: int | None = None) -> Iterator[None]:
    """Deterministic kernels, no autograd, optionally a number of threads; restores the settings afterwards.

    The order in which a sum is added depends on how many threads share it, and one bit of one float that differs
    between encoder and decoder loses the stream: the decoder takes the number that the encoder had, even where the
    machine has fewer cores.
    """
    before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(threads or threads_before)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads_before)


def encode(
    model: AncestralModel,
    identity: bytes,
    images: Sequence[Image],
    batch_size: int = 16,
    chained: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    horizon: int | None = None,
) -> tuple[bytes, Report]:
    """Encode images with a model.

    Args:
        model: in eval mode; images must hold no more than its `bits`.
        identity: 12 bytes that name spec and weights.
        images: in the order in which they are to be found again; loaded one at a time.
        batch_size: tiles at once, at most 64.
        chained: bits-back (True), rounded latents (False), or whatever is predicted to be smaller (None).
        seed: of the shared generator.
        progress: called with (tiles done, tiles in all).
        horizon: length in tiles of the stream that the plan is chosen for; None: of this one. The longer, the less do
            initial bits count, and the closer is the net length to the bound.

    Returns:
        The bytes of the file, and what they cost.

    Raises:
        UserError: if the images do not fit the model, or the model cannot code.
    """
    if not images:
        raise UserError("no images to encode; name at least one file")
    with repeatable(), _as_user_errors("encode"):
        return _encode(model, identity, images, batch_size, chained, seed, progress, horizon)


def _encode(
    model: AncestralModel,
    identity: bytes,
    images: Sequence[Image],
    batch_size: int,
    chained: bool | None,
    seed: int,
    progress: Progress | None,
    horizon: int | None,
) -> tuple[bytes, Report]:
    tile = model.image_shape[1:]
    sizes = [size for image in images for size in tile_sizes(*image.size, tile)]
    batches = partition(len(sizes), min(batch_size, len(sizes)))
    checksum = PixelChecksum()
    tiles = _tiles(model, images, checksum)
    stack, plan, whitened, bound, done = Stack(), None, 0, 0.0, 0
    for number, count in enumerate(batches):
        x = torch.from_numpy(np.stack([next(tiles) for _ in range(count)]))
        real = sizes[done : done + count]
        if plan is None:
            plan = choose_plan(model, x, real, horizon or len(sizes), chained, seed).plan
            stack = fresh_stack(seed)
        elif whitened:
            whiten(stack, seed, number, whitened)
        bound += encode_batch(model, x, real, plan, number, stack).bound
        if number == 0:
            whitened = max(0, stack.supplied + 1 - stack.lowest)
        done += count
        if progress is not None:
            progress(done, len(sizes))
    assert plan is not None
    payload, initial = _trim(stack)
    header = _header(model, identity, images, plan, min(batch_size, len(sizes)))
    header = replace(header, whitened=whitened, initial=initial, checksum=checksum.digest())
    data = pack(header, payload)
    dims = sum(model.image_shape[0] * height * width for height, width in header.sizes)
    return data, Report(dims, len(data), 32 * len(payload), 32 * initial, bound, plan.chained)


def _header(model: AncestralModel, identity: bytes, images: Sequence[Image], plan: Plan, batch_size: int) -> Header:
    """The header as far as it is known before coding."""
    return Header(
        model=identity,
        shape=model.image_shape,
        bits=model.bits,
        chained=plan.chained,
        batch_size=batch_size,
        seed=plan.seed,
        whitened=0,
        initial=0,
        steps=model.steps or 0,
        profile=plan.profile.to_bytes(),
        names=[image.name for image in images],
        sizes=[image.size for image in images],
        modes="".join(image.mode for image in images),
        checksum=bytes(8),
        environment=environment(),
    )


def _tiles(model: AncestralModel, images: Sequence[Image], checksum: PixelChecksum) -> Iterator[Pixels]:
    """Tiles of all images, each image checked, summed and loaded only when its turn comes."""
    channels = model.image_shape[0]
    for number, image in enumerate(images):
        pixels = image.load()
        if pixels.shape != (channels, *image.size) or pixels.dtype != np.uint8:
            raise UserError(f"{image.name}: expected uint8 pixels {(channels, *image.size)}, got {pixels.shape}")
        tensor = torch.from_numpy(pixels)
        if not torch.equal(from_levels(to_levels(tensor, model.bits), model.bits), tensor):
            raise UserError(
                f"{image.name}: has more than the {model.bits} bits this model codes; "
                "use an 8-bit checkpoint, or --reduce-bits to code the reduced image"
            )
        checksum.add(number, pixels)
        yield from cut(pixels, model.image_shape[1:])


def whiten(stack: Stack, seed: int, batch: int, words: int) -> None:
    """Scramble the top words between batches, all but the very last; doing it twice undoes it.

    The next batch pops the bits that the batch before pushed for its latents under the prior. Those follow the
    aggregate posterior, so without scrambling an unusual latent of one image becomes an unusual one of the next.
    """
    contents = stack.words()
    count = min(words, len(contents) - 1)
    if count > 0:
        contents[-1 - count : -1] ^= keystream(seed, _WHITENING_COUNTER + batch, count)
        stack.replace(contents)
        stack.lowest = min(stack.lowest, len(contents) - 1 - count)


def _trim(stack: Stack) -> tuple[np.ndarray, int]:
    """The contents without the seeded words at the bottom that no pop reached, and how many of them remain."""
    untouched = min(max(0, stack.lowest - 2), stack.supplied)
    return stack.words()[untouched:], stack.supplied - untouched


def decode(
    model: AncestralModel,
    identity: bytes,
    data: bytes,
    name: str,
    progress: Progress | None = None,
) -> Iterator[tuple[str, str, Pixels]]:
    """Decode a file; the last image comes first.

    Args:
        model: in eval mode.
        identity: as in `encode`; must be the one the file was made with.
        data: the whole file.
        name: of the file, for errors.
        progress: called with (tiles done, tiles in all).

    Yields:
        (name, mode, pixels (C, H, W) uint8), last image first. Trust nothing before the iterator has ended: the check
        of all pixels comes at the end.

    Raises:
        UserError: if the file is damaged, made with another model, or decodes to other pixels on this machine.
    """
    header, payload = unpack(data, name)
    if header.model != identity:
        raise UserError(f"{name}: made with another checkpoint (or other settings of it); decode with the one it names")
    if header.shape != tuple(model.image_shape) or header.bits != model.bits:
        raise UserError(f"{name}: made for {header.shape} at {header.bits} bits, the model has {model.image_shape}")
    if header.steps:
        model.steps = header.steps
    with repeatable(_threads_of(header.environment)), _as_user_errors(f"{name}: decode"):
        yield from _decode(model, header, payload, name, progress)


def _decode(
    model: AncestralModel, header: Header, payload: np.ndarray, name: str, progress: Progress | None
) -> Iterator[tuple[str, str, Pixels]]:
    channels, *tile_shape = header.shape
    tile = (tile_shape[0], tile_shape[1])
    plan = Plan(Profile.from_bytes(header.profile, site_channels(model)), header.chained, header.seed)
    sizes = [size for image in header.sizes for size in tile_sizes(*image, tile)]
    batches = partition(len(sizes), header.batch_size)
    stack = Stack(payload)
    checksum = PixelChecksum()

    def tiles() -> Iterator[Pixels]:
        done = len(sizes)
        for number in range(len(batches) - 1, -1, -1):
            real = sizes[done - batches[number] : done]
            x = decode_batch(model, real, plan, number, stack)
            if number and header.whitened:
                whiten(stack, header.seed, number, header.whitened)
            done -= batches[number]
            if progress is not None:
                progress(len(sizes) - done, len(sizes))
            yield from x.numpy()[::-1]

    for number, pixels in assemble(header.sizes, tile, channels, tiles()):
        checksum.add(number, pixels)
        yield header.names[number], header.modes[number], pixels
    seeded = initial_words(header.seed, 0, header.initial)[::-1]
    expected = np.concatenate([seeded, np.ones(1, dtype=np.uint32)])
    if checksum.digest() != header.checksum or not np.array_equal(stack.words(), expected):
        raise UserError(
            f"{name}: decoded pixels fail their check sum: this machine computes other floats than the one that wrote "
            f"the file (written with: {header.environment}; here: {environment()})"
        )


@contextlib.contextmanager
def _as_user_errors(what: str) -> Iterator[None]:
    """Failures of the coder as one line."""
    try:
        yield
    except StackError as error:
        raise UserError(f"{what}: {error}; wrong checkpoint, damaged file or other floats on this machine") from error


def site_channels(model: AncestralModel) -> list[int]:
    """Channels of every Gaussian site, from one cheap pass over the prior of one image."""
    channels: list[int] = []

    class Watch(SamplePrior):
        def __call__(self, site: LatentSite) -> torch.Tensor:
            if isinstance(site.prior, DiagonalGaussian):
                channels.append(int(site.prior.mean.shape[1]))
            return super().__call__(site)

    model.ancestral_pass(Watch(), n=1)
    return channels
