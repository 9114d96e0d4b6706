"""A reader of `.zoo` files written from docs/format.md alone: it shares no code with the package."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import msgpack

FIELDS = ["model", "shape", "bits", "chained", "batches", "seed", "whitened", "steps", "profile", "checksum"]
FIELDS += ["first", "environment", "entries", "blobs"]
TYPES = (bytes, list, int, bool, list, int, int, int, bytes, bytes, bytes, str, list, list)


class DamagedError(Exception):
    """The file is not what the page says."""


@dataclass
class File:
    """What a file says before anything is decoded."""

    portable: bool
    header: dict[str, Any]
    payload: list[int]


def ensure(holds: bool, what: str) -> None:
    if not holds:
        raise DamagedError(what)


def read(data: bytes) -> File:
    """Everything but the pixels."""
    ensure(data[:8] == bytes.fromhex("895A4F4F0D0A1A0A"), "magic")
    ensure(len(data) >= 18 and data[8] == 2, "version")
    ensure(zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0], "check sum")
    flags, (length,) = data[9], struct.unpack("<I", data[10:14])
    ensure(flags < 4 and 14 + length + 4 <= len(data) and (len(data) - 18 - length) % 4 == 0, "layout")
    stored = data[14 : 14 + length]
    if flags & 1:
        stored = zlib.decompressobj().decompress(stored, 64 * length + 65536)
    values = msgpack.unpackb(stored)
    ensure(len(values) == len(FIELDS), "fields")
    ensure(all(type(value) is kind for value, kind in zip(values, TYPES, strict=True)), "types")
    header = dict(zip(FIELDS, values, strict=True))
    payload = list(struct.unpack(f"<{(len(data) - 18 - length) // 4}I", data[14 + length : -4]))
    ensure(bool(payload) and payload[-1] != 0, "payload")
    channels, height, width = header["shape"]
    tiles = sum(-(-h // height) * -(-w // width) for h, w in pictures(header))
    batches = header["batches"]
    ensure(sum(size * run for size, run in zip(batches[::2], batches[1::2], strict=True)) == tiles, "batches")
    ensure(tiles * channels * height * width <= 200 * 32 * len(payload) + (1 << 20), "claims")
    return File(bool(flags & 2), header, payload)


def pictures(header: dict[str, Any]) -> list[tuple[int, int]]:
    """Height and width of every picture."""
    sizes = []
    for _, _, shape, *_ in header["entries"]:
        count, (height, width) = (shape[0], shape[1:3]) if len(shape) == 4 else (1, shape[:2])
        sizes += [(height, width)] * count
    return sizes


def extras(header: dict[str, Any], number: int) -> dict[str, bytes]:
    """What belongs to an entry besides its pixels."""
    _, _, _, *rest = header["entries"][number]
    return {key: header["blobs"][place] for key, place in (rest[0] if rest else {}).items()}


def checksum(images: list[tuple[tuple[int, int, int], bytes]]) -> bytes:
    """Of pictures in order: their (C, H, W) and bytes."""
    total = 0
    for number, (shape, pixels) in enumerate(images):
        key = struct.pack("<Q3I", number, *shape)
        total ^= int.from_bytes(hashlib.blake2b(pixels, digest_size=8, key=key).digest(), "little")
    return total.to_bytes(8, "little")
