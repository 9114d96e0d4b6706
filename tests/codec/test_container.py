"""The .zoo file: golden bytes, and nothing damaged is ever taken for whole."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from tests.codec.test_stream import IDENTITY, smooth_images
from tests.codec.toy import ExactModel, ToyVAE
from zoo.codec import Entry, Header, Limits, Options, decode, encode, from_batch, pack, unpack
from zoo.codec.names import check_names
from zoo.codec.tiles import PixelChecksum
from zoo.errors import UserError

GOLDEN = Path(__file__).parent / "data" / "golden-v2.zoo"


def golden_images() -> torch.Tensor:
    """(5, 3, 4, 4) uint8 at 4 bits, from whole-number arithmetic alone."""
    index = torch.arange(5 * 3 * 4 * 4).reshape(5, 3, 4, 4)
    return (((index * 37 + index // 7) % 16) << 4).to(torch.uint8)


def test_golden_file_still_decodes() -> None:
    decoded = {
        entry.name: pixels
        for entry, _, pixels in decode(ExactModel(), IDENTITY, GOLDEN.read_bytes(), "golden", force=True)
    }
    assert all(np.array_equal(decoded[f"image-{n:06d}.png"], image) for n, image in enumerate(golden_images().numpy()))


def test_encoding_the_golden_images_still_gives_the_same_payload() -> None:
    data, _ = encode(ExactModel(), IDENTITY, from_batch(golden_images()), Options(2, True))
    (header, payload), (golden_header, golden_payload) = unpack(data, "new"), unpack(GOLDEN.read_bytes(), "golden")
    assert np.array_equal(payload, golden_payload)
    assert replace(header, environment="") == replace(golden_header, environment="")


@pytest.fixture(scope="module")
def coded() -> bytes:
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(smooth_images(3)), Options(2, True))
    return data


def test_pack_and_unpack_are_inverse(coded: bytes) -> None:
    header, payload = unpack(coded, "file")
    assert pack(header, payload) == coded


@pytest.mark.parametrize("kind", ["truncated", "flipped", "grown"])
def test_ten_thousand_damaged_files_are_refused_at_once(coded: bytes, kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000 // 3 + 1):
        damaged = bytearray(coded)
        where = int(rng.integers(0, len(coded)))
        if kind == "truncated":
            del damaged[where:]
        elif kind == "flipped":
            damaged[where] ^= 1 << int(rng.integers(0, 8))
        else:
            damaged[where:where] = rng.bytes(int(rng.integers(1, 9)))
        with pytest.raises(UserError):
            unpack(bytes(damaged), "damaged.zoo")


def forged(data: bytes, field: int, value: object) -> bytes:
    """The file with one header field replaced and all check sums put right."""
    length = struct.unpack_from("<I", data, 10)[0]
    head = data[14 : 14 + length]
    values = msgpack.unpackb(zlib.decompress(head) if data[9] & 1 else head)
    values[field] = value
    head = msgpack.packb(values)
    body = data[:8] + struct.pack("<BBI", 2, 0, len(head)) + head + data[14 + length : -4]
    return body + struct.pack("<I", zlib.crc32(body))


FORGERIES = [None, -1, 0, 1, 3, 2**31, 2**62, "x", "x" * 70000, b"", b"\0" * 12, b"\xff" * 5000, [], [1], [[1, 2]], 1.5]
ENTRIES = [[["a.png", "R", [8, 8]]] * 3, [["a", "R", [9, 8]]], [["a.npy", "A", [3, 8, 8, 3]]], [["a", "L", [8, 8], {}]]]


@pytest.mark.parametrize("field", range(len(Header.__dataclass_fields__) + 1))
def test_forged_header_fields_never_give_wrong_pixels(coded: bytes, field: int) -> None:
    images = smooth_images(3).numpy()
    for value in [*FORGERIES, True, False, [3, 8, 9], [3, 1], [1, 3], [2, 2], *ENTRIES]:
        try:
            decoded = list(decode(ToyVAE(), IDENTITY, forged(coded, field, value), "forged.zoo", force=True))
        except UserError:
            continue
        # What is accepted may have another name, mode or note, never other pixels.
        assert len(decoded) == 3
        assert all(np.array_equal(pixels, images[2 - n]) for n, (_, _, pixels) in enumerate(decoded))


def test_forged_payloads_fail_the_pixel_check_sum(coded: bytes) -> None:
    header, payload = unpack(coded, "file")
    rng = np.random.default_rng(1)
    for _ in range(40):
        other = payload.copy()
        other[int(rng.integers(0, len(other)))] ^= np.uint32(1 << int(rng.integers(0, 32)))
        if rng.random() < 0.3:
            other = other[: int(rng.integers(0, len(other)))]
        with pytest.raises(UserError):
            list(decode(ToyVAE(), IDENTITY, pack(header, other), "forged.zoo"))


def test_a_header_cannot_claim_more_than_its_payload_can_hold(coded: bytes) -> None:
    entries = [["a.png", "R", [100_000, 100_000]]]
    with pytest.raises(UserError, match="far more pixels"):
        unpack(forged(coded, 12, entries), "forged.zoo")


def test_limits_are_checked_before_anything_is_made(coded: bytes) -> None:
    with pytest.raises(UserError, match="--max-pixels"):
        unpack(coded, "f.zoo", Limits(pixels=63))
    with pytest.raises(UserError, match="--max-memory"):
        unpack(coded, "f.zoo", Limits(memory=100))


def test_a_small_header_cannot_unfold_to_millions_of_objects() -> None:
    plain = msgpack.packb([["a", "R", [1, 1]]] * 2_000_000)
    head = zlib.compress(plain, 9)
    body = b"\x89ZOO\r\n\x1a\n" + struct.pack("<BBI", 2, 1, len(head)) + head + b"\1\0\0\0"
    with pytest.raises(UserError, match="unfolds to more"):
        unpack(body + struct.pack("<I", zlib.crc32(body)), "bomb.zoo")


def test_a_payload_that_ends_in_a_zero_word_is_refused(coded: bytes) -> None:
    header, payload = unpack(coded, "file")
    with pytest.raises(UserError, match="must not be zero"):
        unpack(pack(header, np.append(payload, 0).astype(np.uint32)), "zero.zoo")


def test_an_older_file_names_the_version_that_reads_it(coded: bytes) -> None:
    with pytest.raises(UserError, match=r"version 1; this zoo reads version 2, zoo 0\.1 reads it"):
        unpack(coded[:8] + b"\1" + coded[9:], "old.zoo")


BAD = ("../x.png", "/etc/x.png", "a//b.png", "..", "", "a\\b", "a:b", "con.png", "a.", " a")
NAMES = (*BAD, "a\n", "x" * 256, "\udcff")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cannot_be_written_everywhere_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        check_names([name])


@pytest.mark.parametrize("names", [["a.png", "a.png"], ["a.png", "A.png"], ["a", "a/b"], ["é.png", "e\u0301.png"]])
def test_names_that_meet_in_one_file_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="given back under this name"):
        check_names(names)


def test_a_header_with_names_that_meet_is_refused(coded: bytes) -> None:
    header, payload = unpack(coded, "file")
    entries = [Entry("photo.jpg", "R", (8, 8)), Entry("photo.jpg.png", "R", (8, 8)), Entry("c.png", "R", (8, 8))]
    with pytest.raises(UserError, match="given back under this name"):
        pack(replace(header, entries=entries), payload)


def test_pixel_check_sum_knows_order_and_shape() -> None:
    a, b = np.zeros((3, 2, 4), dtype=np.uint8), np.ones((3, 2, 4), dtype=np.uint8)

    def total(*images: tuple[int, np.ndarray]) -> bytes:
        checksum = PixelChecksum()
        for number, image in images:
            checksum.add(number, image)
        return checksum.digest()

    assert total((0, a), (1, b)) == total((1, b), (0, a))
    assert total((0, a), (1, b)) != total((0, b), (1, a))
    assert total((0, a)) != total((0, a.reshape(3, 4, 2)))
