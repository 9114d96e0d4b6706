"""The `.zoo` file: magic, version, header, payload, check sum. Byte by byte in docs/format.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, fields
from typing import Any

import msgpack
import numpy as np

from zoo.codec.names import check_names, given_name
from zoo.codec.stack import Words
from zoo.errors import UserError

MAGIC = b"\x89ZOO\r\n\x1a\n"
VERSION = 2
_FIXED = struct.Struct("<BBI")
_DEFLATED, PORTABLE = 1, 2  # flags
LARGEST_BATCH = 256
_LARGEST_SIDE = 1 << 17
_LARGEST_STEPS = 10_000
# What a header may unfold to: bounds time and memory before an object is made of it.
_HEADER_RATIO, _HEADER_FREE, _HEADER_MOST = 64, 1 << 16, 1 << 26
# A file may not claim more dimensions per bit of payload than this: bounds time and memory on forged headers.
_DIMS_PER_BIT, _DIMS_FREE = 200, 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a reader is ready to spend on a file.

    Attributes:
        pixels: of one picture.
        memory: bytes for the largest picture and the payload, estimated before anything is unfolded.
    """

    pixels: int = 64_000_000
    memory: int = 1 << 30


@dataclass(frozen=True)
class Entry:
    """One file that was coded: a picture, or an array of one or several.

    Attributes:
        name: with "/" between folders.
        mode: how it is given back: "R" colour, "L" grey or "1" black and white as PNG, "A" as .npy.
        shape: (H, W); of an array (H, W), (H, W, c) or (N, H, W, c).
        extras: what belongs to the picture besides: "icc" (profile), "alpha" (a grey PNG), "orientation" (one byte, as
            in EXIF), and PNG's chunks cHRM, gAMA, sRGB, cICP.
    """

    name: str
    mode: str
    shape: tuple[int, ...]
    extras: dict[str, bytes] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Pictures in it."""
        return self.shape[0] if len(self.shape) == 4 else 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of each."""
        height, width = self.shape[1:3] if len(self.shape) == 4 else self.shape[:2]
        return height, width

    @property
    def channels(self) -> int:
        """Colours that are given back."""
        return 3 if self.mode == "R" else self.shape[-1] if len(self.shape) > 2 else 1


@dataclass(frozen=True)
class Header:
    """Everything the decoder needs besides the checkpoint.

    Attributes:
        model: 12 bytes that name the network and its weights.
        shape: (C, H, W) of a tile.
        bits: depth of the coded levels.
        chained: bits-back over a chain of batches, or rounded latents without initial bits.
        batches: size of a batch and how many such follow each other, in turn; floats depend on them.
        seed: of the shared generator.
        whitened: words scrambled between batches, for each tile of the next one.
        steps: sampling steps of models that have a choice (VDM), 0 elsewhere.
        profile: steps and seeded channels of the latents, deflated.
        checksum: 8 bytes, BLAKE2b of all decoded pixels, order-free.
        first: 4 bytes, the same over the tiles of the batch that is decoded first.
        environment: versions, threads and instruction sets the file was made with.
        entries: the files, in order.
    """

    model: bytes
    shape: tuple[int, int, int]
    bits: int
    chained: bool
    batches: list[int]
    seed: int
    whitened: int
    steps: int
    profile: bytes
    checksum: bytes
    first: bytes
    environment: str
    entries: list[Entry]

    def __post_init__(self) -> None:
        """Refuse what no encoder writes.

        Raises:
            UserError: naming the field.
        """
        channels, height, width = self.shape
        checks = {
            "model": len(self.model) == 12,
            "shape": channels in (1, 3) and 1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE,
            "bits": 1 <= self.bits <= 8,
            "batches": len(self.batches) % 2 == 0 and all(1 <= size <= LARGEST_BATCH for size in self.batches[::2]),
            "runs": all(1 <= run < 1 << 32 for run in self.batches[1::2]),
            "whitened": 0 <= self.whitened < 1 << 32,
            "seed": 0 <= self.seed < 1 << 63,
            "steps": 0 <= self.steps <= _LARGEST_STEPS,
            "checksum": len(self.checksum) == 8 and len(self.first) == 4,
            "environment": len(self.environment) <= 256 and self.environment.isprintable(),
            "entries": bool(self.entries) and all(_possible(entry, channels) for entry in self.entries),
        }
        for name, holds in checks.items():
            if not holds:
                raise UserError(f"the .zoo header is damaged: {name} is impossible")
        check_names(given_name(entry.name, entry.mode) for entry in self.entries)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every picture, in order."""
        return [entry.size for entry in self.entries for _ in range(entry.count)]

    @property
    def batch_sizes(self) -> list[int]:
        """Tiles of every batch, in order."""
        return [size for size, run in zip(self.batches[::2], self.batches[1::2], strict=True) for _ in range(run)]


def _possible(entry: Entry, channels: int) -> bool:
    """Whether an encoder could have written this entry."""
    if entry.mode not in ("R", "L", "1", "A") or not all(1 <= side <= _LARGEST_SIDE for side in entry.shape):
        return False
    if entry.mode != "A":
        return len(entry.shape) == 2 and entry.channels <= channels
    return len(entry.shape) == 2 or (len(entry.shape) in (3, 4) and entry.shape[-1] in (1, channels))


def _tiles(header: Header) -> int:
    """Tiles of all pictures."""
    _, height, width = header.shape
    return sum(e.count * -(-e.size[0] // height) * -(-e.size[1] // width) for e in header.entries)


def pack(header: Header, payload: Words, portable: bool = False) -> bytes:
    """The bytes of a `.zoo` file; `portable` says so in front, where a reader sees it before it starts torch."""
    blobs = list({blob: None for entry in header.entries for blob in entry.extras.values()})
    place = {blob: number for number, blob in enumerate(blobs)}
    entries = [_written(entry, place) for entry in header.entries]
    plain: bytes = msgpack.packb([*(getattr(header, field.name) for field in fields(Header)[:-1]), entries, blobs])
    deflated = zlib.compress(plain, 9)
    small = len(plain) <= _HEADER_RATIO * len(deflated) + _HEADER_FREE
    use_deflated = len(deflated) < len(plain) and small
    head = deflated if use_deflated else plain
    flags = (_DEFLATED if use_deflated else 0) | (PORTABLE if portable else 0)
    body = MAGIC + _FIXED.pack(VERSION, flags, len(head)) + head
    body += payload.astype("<u4").tobytes()
    return body + struct.pack("<I", zlib.crc32(body))


def _written(entry: Entry, place: dict[bytes, int]) -> list[Any]:
    extras = [{key: place[blob] for key, blob in entry.extras.items()}] if entry.extras else []
    return [entry.name, entry.mode, list(entry.shape), *extras]


def unpack(data: bytes, name: str, limits: Limits = Limits()) -> tuple[Header, Words]:
    """Header and payload of a `.zoo` file, after every check that needs no network.

    Args:
        data: the whole file.
        name: for errors.
        limits: refuse what would cost more.

    Raises:
        UserError: if it is no `.zoo` file, of another version, truncated, damaged, or beyond the limits.
    """
    start = len(MAGIC) + _FIXED.size
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(f"{name}: not a .zoo file (its first bytes differ); give a file that `zoo compress` wrote")
    if len(data) < start + 4:
        raise UserError(f"{name}: truncated .zoo file ({len(data)} bytes); copy it again")
    version, flags, length = _FIXED.unpack_from(data, len(MAGIC))
    if version != VERSION:
        hint = "zoo 0.1 reads it" if version < VERSION else "a newer zoo reads it"
        raise UserError(f"{name}: .zoo format version {version}; this zoo reads version {VERSION}, {hint}")
    if zlib.crc32(memoryview(data)[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise UserError(f"{name}: check sum does not match, the file is damaged or truncated; copy it again")
    payload = memoryview(data)[start + length : -4]
    if length > len(data) - start - 4 or len(payload) % 4 or flags & ~(_DEFLATED | PORTABLE):
        raise UserError(f"{name}: the .zoo header is damaged: its length or flags are impossible")
    room = _DIMS_PER_BIT * 8 * len(payload) + _DIMS_FREE
    header = _header(data[start : start + length], bool(flags & _DEFLATED), name, room)
    words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
    _check_claims(header, words, name, limits)
    return header, words


def _check_claims(header: Header, words: Words, name: str, limits: Limits) -> None:
    """Hold what the header claims against the payload and the limits."""
    if _tiles(header) * int(np.prod(header.shape)) > _DIMS_PER_BIT * 32 * len(words) + _DIMS_FREE:
        raise UserError(f"{name}: the .zoo header claims far more pixels than its payload can hold")
    if sum(size * run for size, run in zip(header.batches[::2], header.batches[1::2], strict=True)) != _tiles(header):
        raise UserError(f"{name}: the .zoo header is damaged: its batches do not hold its tiles")
    if not len(words) or words[-1] == 0:
        raise UserError(f"{name}: the payload is damaged: its last word must not be zero")
    height, width = max(header.sizes, key=lambda size: size[0] * size[1])
    if height * width > limits.pixels:
        raise UserError(f"{name}: a picture of {width}x{height} pixels; allow it with --max-pixels {height * width}")
    needed = 3 * header.shape[0] * height * width + 16 * len(words)
    if needed > limits.memory:
        raise UserError(f"{name}: decoding needs about {needed >> 20} MiB; allow it with --max-memory")


def _header(head: bytes, deflated: bool, name: str, room: int) -> Header:
    most = min(_HEADER_RATIO * len(head) + _HEADER_FREE, _HEADER_MOST)
    try:
        if deflated:
            inflater = zlib.decompressobj()
            head = inflater.decompress(head, most)
            if inflater.unconsumed_tail or not inflater.eof:
                raise UserError("the .zoo header is damaged: it unfolds to more than it may")
        return _typed(msgpack.unpackb(head, use_list=True, strict_map_key=True), room)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except (zlib.error, ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException, RecursionError) as error:
        raise UserError(f"{name}: the .zoo header is damaged and cannot be read") from error


def _typed(values: Any, room: int) -> Header:
    """Check the type of every field before anything is done with it; a header has room for so many dimensions."""
    kinds = (bytes, list, int, bool, list, int, int, int, bytes, bytes, bytes, str, list, list)
    if not isinstance(values, list) or len(values) != len(kinds):
        raise ValueError("wrong number of fields")
    if any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)):
        raise ValueError("wrong type of a field")
    shape, batches, entries, blobs = values[1], values[4], values[12], values[13]
    if len(shape) != 3 or any(type(side) is not int for side in shape + batches):
        raise ValueError("wrong shape or batches")
    most = room // max(1, int(np.prod(shape, dtype=object)))  # tiles
    if len(entries) > most or len(batches) > 2 * most or len(blobs) > 7 * most:
        raise UserError("the .zoo header claims far more pixels than its payload can hold")
    if any(type(blob) is not bytes for blob in blobs):
        raise ValueError("wrong blobs")
    values[1], values[12] = tuple(shape), [_entry(entry, blobs) for entry in entries]
    return Header(*values[:13])


def _entry(values: Any, blobs: list[bytes]) -> Entry:
    if type(values) is not list or len(values) not in (3, 4):
        raise ValueError("wrong entry")
    name, mode, shape, *rest = values
    extras = rest[0] if rest else {}
    if type(name) is not str or type(mode) is not str or type(shape) is not list or type(extras) is not dict:
        raise ValueError("wrong type in an entry")
    if len(shape) not in (2, 3, 4) or any(type(side) is not int for side in shape):
        raise ValueError("wrong shape of an entry")
    if any(type(number) is not int or number < 0 for number in extras.values()):
        raise ValueError("wrong extras of an entry")
    return Entry(name, mode, tuple(shape), {key: blobs[number] for key, number in extras.items()})
