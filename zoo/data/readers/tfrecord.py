"""TFRecord files with `tf.train.Example` messages, read without TensorFlow.

A record is: length (uint64), masked CRC-32C of the length (uint32), message, masked CRC-32C of the message; all little
endian. The length's checksum is verified; the message's is not, since a table-driven CRC in Python would take longer
than everything else, and the pixel digest of the prepared file covers it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from zoo.data.images import MAX_FILE_BYTES
from zoo.data.readers.base import Item
from zoo.data.trees import Tree
from zoo.errors import UserError

Feature = bytes | list[int] | list[float]


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def masked_crc(content: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Records(NamedTuple):
    """A record file on disk or in an archive."""

    tree: Tree
    name: str

    def __str__(self) -> str:
        return f"{self.tree.path}: {self.name}"

    @property
    def file(self) -> Path:
        """The file on disk: the archive, or the record file itself."""
        return self.tree.path if self.tree.path.is_file() else self.tree.path / self.name


def find_records(source: Path, trees: list[Tree]) -> list[tuple[str, Records]]:
    """Record files with their part: "val" below a folder whose name has "val" in it, or named so; else "train"."""
    found = []
    for tree in trees:
        for name in tree.matching(lambda name: "tfrecord" in name):
            near = "/".join((source / name).parts[-2:])
            found.append(("val" if "val" in near else "train", Records(tree, name)))
    return found


def _length(stream: IO[bytes], records: Records, record: int) -> int | None:
    head = stream.read(12)
    if not head:
        return None
    if (
        len(head) < 12
        or int.from_bytes(head[:8], "little") > MAX_FILE_BYTES
        or masked_crc(head[:8]) != int.from_bytes(head[8:], "little")
    ):
        raise UserError(f"{records}: record {record} is damaged or this is no TFRecord file; get it again")
    return int.from_bytes(head[:8], "little")


def count_records(records: Records) -> int:
    """Number of records, by their lengths alone."""
    size, at, count = records.tree.size(records.name), 0, 0
    with records.tree.open(records.name) as stream:
        while (length := _length(stream, records, count)) is not None:
            at += 12 + length + 4
            if at > size:
                raise UserError(f"{records}: cut short in record {count}; get it again")
            stream.seek(at)
            count += 1
    return count


def messages(records: Records) -> Iterator[bytes]:
    """The messages of a file in order."""
    with records.tree.open(records.name) as stream:
        record = 0
        while (length := _length(stream, records, record)) is not None:
            message = stream.read(length)
            if len(message) < length or len(stream.read(4)) < 4:
                raise UserError(f"{records}: cut short in record {record}; get it again")
            yield message
            record += 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:  # ten bytes at most
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, content) of the fields of a protocol buffer message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size


def parse_example(message: bytes) -> dict[str, Feature]:
    """Features of a `tf.train.Example` by name: bytes (the first), or lists of integers or floats."""
    features: dict[str, Feature] = {}
    for _, feature_map in _fields(message):  # Example.features
        for _, entry in _fields(feature_map):  # type: ignore[arg-type] # map entries: key = 1, value = 2
            pair = dict(_fields(entry))  # type: ignore[arg-type]
            for kind, content in _fields(pair.get(2, b"")):  # type: ignore[arg-type] # bytes, float or int64 list
                features[pair[1].decode()] = _values(kind, content)  # type: ignore[union-attr,arg-type]
    return features


def _values(kind: int, content: bytes) -> Feature:
    if kind == 1:
        return next((value for _, value in _fields(content)), b"")  # type: ignore[return-value]
    values: list[Any] = []
    for _, value in _fields(content):
        if kind == 2:
            values += struct.unpack(f"<{len(value) // 4}f", value)  # type: ignore[arg-type]
        elif isinstance(value, int):
            values.append(value)
        else:  # packed
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                values.append(number)
    return values


def record_items(records: Records) -> Iterator[Item]:
    """Images of Glow's records: `data` = uint8 pixels, `shape` = (H, W, C), optional `label`."""
    for number, message in enumerate(messages(records)):
        try:
            features = parse_example(message)
            shape = tuple(int(side) for side in features["shape"][:4])
            image = np.frombuffer(features["data"], np.uint8).reshape(shape)  # type: ignore[arg-type]
        except Exception as error:  # damaged messages raise nearly anything
            raise UserError(
                f"{records}: record {number} has no 'data' with its 'shape'; expected Glow's records"
            ) from error
        label = features.get("label")
        yield Item(image, int(label[0]) if label else None)
