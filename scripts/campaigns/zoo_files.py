"""Damage `.zoo` files in every way and see how reading them ends; prints one table.

    python scripts/campaigns/zoo_files.py --count 1000 --output docs/campaigns/zoo_files.md

A file must give the right pixels or one `UserError`, in less than 10 seconds and 1 GB. Everything happens in this
process, with small models, so that thousands take minutes.
"""

from __future__ import annotations

import argparse
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.codec.test_stream import IDENTITY, smooth_images
from tests.codec.toy import ToyVAE
from zoo.codec import Options, decode, encode, from_batch
from zoo.errors import UserError

Damage = Callable[[bytes, bytes, np.random.Generator], bytes]
SLOW = 10.0  # seconds


@dataclass
class Row:
    """How the files of one kind ended."""

    kind: str
    tried: int = 0
    right: int = 0
    error: int = 0
    wrong: int = 0
    internal: int = 0
    slow: int = 0
    slowest: float = 0.0


def flip(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A few bits."""
    damaged = bytearray(data)
    for where in rng.integers(0, len(data), rng.integers(1, 9)):
        damaged[where] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A shorter file."""
    return data[: int(rng.integers(0, len(data)))]


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def zeros(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of zeros."""
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def noise(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes behind the magic."""
    return data[:8] + rng.bytes(int(rng.integers(0, 400)))


def sealed(data: bytes, head: bytes, payload: bytes, flags: int = 0) -> bytes:
    """A file with these parts and a check sum that fits."""
    body = data[:9] + bytes([flags]) + struct.pack("<I", len(head)) + head + payload
    return body + struct.pack("<I", zlib.crc32(body))


def parts(data: bytes) -> tuple[list[object], bytes]:
    """Fields of the header, and the payload."""
    length = struct.unpack_from("<I", data, 10)[0]
    head = data[14 : 14 + length]
    return msgpack.unpackb(zlib.decompress(head) if data[9] & 1 else head), data[14 + length : -4]


VALUES = [None, -1, 0, 1, 2, 7, 255, 2**31, 2**63, 1.5, "", "x", "../x", "x" * 9000, b"", b"\0" * 8, b"\xff" * 99]
VALUES += [[], [1], [0, 0], [1, 2, 3], [3, 8, 8], [3, 131072, 131072], [1, 2**40], {}, True, [["a", "R", [8, 8]]]]
VALUES += [[["a", "R", [8, 8]]] * 5, [[str(n), "R", [8, 8]] for n in range(5)], [["a", "A", [5, 8, 8, 3]]], [[[]]]]


def forge(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One or two header fields replaced, check sum right."""
    fields, payload = parts(data)
    for _ in range(int(rng.integers(1, 3))):
        fields[int(rng.integers(0, len(fields)))] = VALUES[int(rng.integers(0, len(VALUES)))]
    try:
        return sealed(data, msgpack.packb(fields), payload)
    except OverflowError:
        return data


def forge_payload(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Words of the payload changed, taken away or added, check sum right."""
    fields, payload = parts(data)
    words = np.frombuffer(payload, "<u4").copy()
    words[rng.integers(0, len(words))] = rng.choice([0, 1, 2**32 - 1, int(rng.integers(0, 2**32))])
    choice = rng.integers(0, 4)
    words = words[: rng.integers(0, len(words))] if choice == 0 else words
    words = np.append(words, np.uint32(0)) if choice == 1 else words
    return sealed(data, msgpack.packb(fields), words.astype("<u4").tobytes())


def bomb(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A small file that claims much: pictures, objects, batches, latents, nested arrays."""
    fields, payload = parts(data)
    size = int(10 ** rng.uniform(3, 6.3))
    choice = int(rng.integers(0, 6))
    if choice == 0:
        fields[12] = [["a", "R", [min(size, 131072), min(size, 131072)]]]
        fields[4] = [256, -((-min(size, 131072) // 8) ** 2) // 256]
    elif choice == 1:
        fields[12] = [["a", "R", [1, 1]]] * size
    elif choice == 2:
        fields[4] = [1, 1] * size
    elif choice == 3:
        fields[8] = zlib.compress(bytes(size * 100))
    elif choice == 4:
        fields[13] = [b""] * size
    head = msgpack.packb(fields) if choice < 5 else b"\xdd\xff\xff\xff\xff" * 200 + b"\x91" * size
    return sealed(data, zlib.compress(head, 9), payload, 1)


KINDS: dict[str, Damage] = {
    "bit flips": flip,
    "cut": cut,
    "splices": splice,
    "zeros": zeros,
    "random bytes": noise,
    "forged headers": forge,
    "forged payloads": forge_payload,
    "bombs": bomb,
}


def campaign(kind: str, count: int, seed: int) -> Row:
    """Damage files in one way, and read them."""
    rng, row, model = np.random.default_rng(seed), Row(kind), ToyVAE()
    images = smooth_images(5)
    expected = {f"image-{n:06d}.png": image for n, image in enumerate(images.numpy())}
    files = [encode(model, IDENTITY, from_batch(images), Options(2, chained))[0] for chained in (True, False)]
    for _ in range(count):
        first = int(rng.integers(0, 2))
        data = KINDS[kind](files[first], files[1 - first], rng)
        start = time.perf_counter()
        row.tried += 1
        try:
            decoded = list(decode(model, IDENTITY, data, "damaged.zoo"))
        except UserError as error:
            row.error += "\n" not in str(error)
            row.internal += "\n" in str(error)
        except Exception as error:
            row.internal += 1
            print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            right = len(decoded) == 5 and all(
                np.array_equal(pixels, list(expected.values())[4 - n]) for n, (_, _, pixels) in enumerate(decoded)
            )
            row.right += right
            row.wrong += not right
        seconds = time.perf_counter() - start
        row.slow += seconds > SLOW
        row.slowest = max(row.slowest, seconds)
    return row


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the table here")
    options = parser.parse_args()
    rows = [campaign(kind, options.count, options.seed) for kind in KINDS]
    lines = [
        "| damage | tried | right | clear error | wrong | internal error | hung (over 10 s) | slowest, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        figures = (r.tried, r.right, r.error, r.wrong, r.internal, r.slow)
        lines.append(f"| {r.kind} | {' | '.join(map(str, figures))} | {r.slowest:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines += ["", f"Peak memory of the process: {peak:.0f} MB."]
    print("\n".join(lines))
    if options.output:
        title = (
            "# Damaged `.zoo` files\n\n`python scripts/campaigns/zoo_files.py --count N` with N as in the table.\n\n"
        )
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(title + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
