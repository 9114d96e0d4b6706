"""A `.zoo` file back to images, last image first."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.codec.bits_back import Plan, decode_batch
from zoo.codec.container import Entry, Header, Limits, unpack
from zoo.codec.environment import check_environment, environment, repeatable, threads_of
from zoo.codec.grid import Profile
from zoo.codec.stack import Stack, StackError, Words
from zoo.codec.stream import Progress, as_user_errors, batch_check, whiten
from zoo.codec.tiles import PixelChecksum, Pixels, assemble, tile_sizes
from zoo.errors import UserError
from zoo.likelihood import AncestralModel


def decode(
    model: AncestralModel,
    identity: bytes,
    data: bytes,
    name: str,
    progress: Progress | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    force: bool = False,
) -> Iterator[tuple[Entry, int, Pixels]]:
    """Decode a file; the last image comes first.

    Args:
        model: in eval mode.
        identity: as in `encode`; must be the one the file was made with.
        data: the whole file.
        name: of the file, for errors.
        progress: called with (tiles done, tiles in all).
        limits: refuse what would cost more.
        force: try although the file names other vector instructions than this process uses.

    Yields:
        (entry, number of the picture in it, pixels (C, H, W) uint8), last first. Trust nothing before the iterator has
        ended: the check of all pixels comes at the end.

    Raises:
        UserError: if the file is damaged, made with another model, or decodes to other pixels on this machine.
    """
    header, payload = unpack(data, name, limits)
    if header.model != identity:
        raise UserError(f"{name}: made with another checkpoint (or other settings of it); decode with the one it names")
    if header.shape != tuple(model.image_shape) or header.bits != model.bits:
        raise UserError(f"{name}: made for {header.shape} at {header.bits} bits, the model has {model.image_shape}")
    if not force:
        check_environment(name, header.environment)
    if (header.steps > 0) != (model.steps is not None):
        raise UserError(f"{name}: the .zoo header is damaged: {header.steps} steps do not fit the model")
    if header.steps:
        model.steps = header.steps
    try:
        with repeatable(header.seed, threads_of(header.environment)), as_user_errors(f"{name}: decode"):
            yield from _decode(model, header, payload, name, progress)
    except OtherFloatsError as error:
        raise UserError(
            f"{name}: decoded pixels fail their check sum: this machine computes other floats than the one that wrote "
            f"the file (written with: {header.environment}; here: {environment()})"
        ) from error


class OtherFloatsError(Exception):
    """What was decoded is not what was encoded."""


def _decode(
    model: AncestralModel, header: Header, payload: Words, name: str, progress: Progress | None
) -> Iterator[tuple[Entry, int, Pixels]]:
    channels, *tile_shape = header.shape
    tile = (tile_shape[0], tile_shape[1])
    tiles = _tiles(model, header, payload, progress)
    pictures = [(entry, frame) for entry in header.entries for frame in range(entry.count)]
    checksum = PixelChecksum()
    for number, pixels in assemble(header.sizes, tile, channels, tiles):
        checksum.add(number, pixels)
        yield (*pictures[number], pixels)
    if checksum.digest() != header.checksum:
        raise OtherFloatsError


def _tiles(model: AncestralModel, header: Header, payload: Words, progress: Progress | None) -> Iterator[Pixels]:
    """All tiles, last first."""
    plan = Plan(Profile.from_bytes(header.profile), header.chained, header.seed)
    tile = (header.shape[1], header.shape[2])
    sizes = [size for picture in header.sizes for size in tile_sizes(*picture, tile)]
    batches = header.batch_sizes
    if sum(batches) != len(sizes):
        raise StackError("the batches do not hold the tiles")
    stack, done = Stack(payload), len(sizes)
    for number in range(len(batches) - 1, -1, -1):
        x = decode_batch(model, sizes[done - batches[number] : done], plan, number, stack)
        if done == len(sizes) and batch_check(x) != header.first:
            raise OtherFloatsError
        if number and header.chained:
            whiten(stack, header.seed, number, header.whitened * batches[number])
        stack.settle()
        done -= batches[number]
        if progress is not None:
            progress(len(sizes) - done, len(sizes))
        yield from x.numpy()[::-1]
