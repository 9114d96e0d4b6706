"""The `.zoo` file: magic, version, header, payload, check sum. Byte by byte in docs/codec.md.

offset  size  what
0       8     magic 89 5A 4F 4F 0D 0A 1A 0A  (text-mode copies damage it visibly)
8       1     version, 1
9       1     flags, bit 0: the header is deflated
10      4     header length n, little-endian
14      n     header: msgpack array, see `Header`
14+n    4w    payload: w words of the stack, little-endian, bottom first
end-4   4     CRC-32 of everything before, little-endian
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass, fields
from typing import Any

import msgpack
import numpy as np

from zoo.codec.stack import Words
from zoo.errors import UserError

MAGIC = b"\x89ZOO\r\n\x1a\n"
VERSION = 1
_FIXED = struct.Struct("<BBI")
_DEFLATED = 1
_LARGEST_HEADER = 1 << 26
_LARGEST_BATCH = 64
_LARGEST_SIDE = 1 << 17
# A file may not claim more dimensions per bit of payload than this: bounds time and memory on forged headers.
_DIMS_PER_BIT, _DIMS_FREE = 200, 1 << 20


@dataclass(frozen=True)
class Header:
    """Everything the decoder needs besides the checkpoint.

    Attributes:
        model: first 12 bytes of the SHA-256 of the network's spec and weights.
        shape: (C, H, W) of a tile.
        bits: depth of the coded levels.
        chained: bits-back over a chain of batches, or rounded latents without initial bits.
        batch_size: tiles priced at once; floats depend on it.
        seed: of the shared generator.
        whitened: words scrambled between batches.
        initial: seeded words at the bottom of the payload's stack.
        steps: sampling steps of models that have a choice (VDM), 0 elsewhere.
        profile: steps and seeded channels of the latents, deflated.
        names: of the images, in order.
        sizes: height and width of every image.
        modes: how each image is given back, one letter each: "R" colour, "L" grey, "r"/"l" the same as .npy.
        checksum: 8 bytes, BLAKE2b of all decoded pixels, order-free.
        environment: versions, threads and processor the file was made with.
    """

    model: bytes
    shape: tuple[int, int, int]
    bits: int
    chained: bool
    batch_size: int
    seed: int
    whitened: int
    initial: int
    steps: int
    profile: bytes
    names: list[str]
    sizes: list[tuple[int, int]]
    modes: str
    checksum: bytes
    environment: str

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
            "batch_size": 1 <= self.batch_size <= _LARGEST_BATCH,
            "counts": min(self.seed, self.whitened, self.initial, self.steps) >= 0,
            "seed": self.seed < 1 << 63,
            "steps": self.steps <= 100_000,
            "images": len(self.names) == len(self.sizes) == len(self.modes),
            "sizes": all(1 <= h <= _LARGEST_SIDE and 1 <= w <= _LARGEST_SIDE for h, w in self.sizes),
            "modes": set(self.modes) <= set("RLrl"),
            "checksum": len(self.checksum) == 8,
        }
        for name, holds in checks.items():
            if not holds:
                raise UserError(f"the .zoo header is damaged: {name} is impossible")


def _claimed_dims(header: Header) -> int:
    """Channels times pixels of all tiles, padding included."""
    channels, height, width = header.shape
    tiles = sum(-(-h // height) * -(-w // width) for h, w in header.sizes)
    return tiles * channels * height * width


def pack(header: Header, payload: Words) -> bytes:
    """The bytes of a `.zoo` file."""
    plain: bytes = msgpack.packb(list(astuple(header)), use_single_float=True)
    deflated = zlib.compress(plain, 9)
    use_deflated = len(deflated) < len(plain)
    head = deflated if use_deflated else plain
    body = MAGIC + _FIXED.pack(VERSION, _DEFLATED if use_deflated else 0, len(head)) + head
    body += payload.astype("<u4").tobytes()
    return body + struct.pack("<I", zlib.crc32(body))


def unpack(data: bytes, name: str) -> tuple[Header, Words]:
    """Header and payload of a `.zoo` file, after every check that needs no network.

    Args:
        data: the whole file.
        name: for errors.

    Raises:
        UserError: if it is no `.zoo` file, of another version, truncated, or damaged.
    """
    start = len(MAGIC) + _FIXED.size
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(f"{name}: not a .zoo file (its first bytes differ); give a file that `zoo compress` wrote")
    if len(data) < start + 4:
        raise UserError(f"{name}: truncated .zoo file ({len(data)} bytes); copy it again")
    version, flags, length = _FIXED.unpack_from(data, len(MAGIC))
    if version != VERSION:
        raise UserError(f"{name}: .zoo format version {version}; this zoo reads version {VERSION}")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise UserError(f"{name}: check sum does not match, the file is damaged or truncated; copy it again")
    payload = data[start + length : -4]
    if length > len(data) - start - 4 or len(payload) % 4 or flags & ~_DEFLATED:
        raise UserError(f"{name}: the .zoo header is damaged: its length or flags are impossible")
    header = _header(data[start : start + length], bool(flags & _DEFLATED), name)
    if _claimed_dims(header) > _DIMS_PER_BIT * 8 * len(payload) + _DIMS_FREE:
        raise UserError(f"{name}: the .zoo header claims far more pixels than its payload can hold")
    if header.initial > len(payload) // 4:
        raise UserError(f"{name}: the .zoo header claims more initial words than the payload has")
    return header, np.frombuffer(payload, dtype="<u4").astype(np.uint32)


def _header(head: bytes, deflated: bool, name: str) -> Header:
    try:
        if deflated:
            inflater = zlib.decompressobj()
            head = inflater.decompress(head, _LARGEST_HEADER)
        values = msgpack.unpackb(head, use_list=True)
        return _typed(values)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except (zlib.error, ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise UserError(f"{name}: the .zoo header is damaged and cannot be read") from error


def _typed(values: Any) -> Header:
    """Check the type of every field before anything is done with it."""
    kinds = (bytes, list, int, bool, int, int, int, int, int, bytes, list, list, str, bytes, str)
    if not isinstance(values, list) or len(values) != len(fields(Header)):
        raise ValueError("wrong number of fields")
    if any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)):
        raise ValueError("wrong type of a field")
    shape, names, sizes = values[1], values[10], values[11]
    if len(shape) != 3 or any(type(side) is not int for side in shape):
        raise ValueError("wrong shape")
    if any(type(text) is not str for text in names):
        raise ValueError("wrong names")
    if any(type(size) is not list or len(size) != 2 or any(type(s) is not int for s in size) for size in sizes):
        raise ValueError("wrong sizes")
    values[1], values[11] = tuple(shape), [tuple(size) for size in sizes]
    return Header(*values)
