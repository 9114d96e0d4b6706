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
from zoo.codec import Header, decode, encode, from_batch, pack, unpack
from zoo.codec.images import save_image
from zoo.codec.tiles import PixelChecksum
from zoo.errors import UserError

GOLDEN = Path(__file__).parent / "data" / "golden-v1.zoo"


def golden_images() -> torch.Tensor:
    """(5, 3, 4, 4) uint8 at 4 bits, from whole-number arithmetic alone."""
    index = torch.arange(5 * 3 * 4 * 4).reshape(5, 3, 4, 4)
    return (((index * 37 + index // 7) % 16) << 4).to(torch.uint8)


def test_golden_file_still_decodes() -> None:
    decoded = {name: pixels for name, _, pixels in decode(ExactModel(), IDENTITY, GOLDEN.read_bytes(), "golden")}
    assert all(np.array_equal(decoded[f"image-{n:06d}.png"], image) for n, image in enumerate(golden_images().numpy()))


def test_encoding_the_golden_images_still_gives_the_same_payload() -> None:
    data, _ = encode(ExactModel(), IDENTITY, from_batch(golden_images()), batch_size=2, chained=True)
    (header, payload), (golden_header, golden_payload) = unpack(data, "new"), unpack(GOLDEN.read_bytes(), "golden")
    assert np.array_equal(payload, golden_payload)
    assert replace(header, environment="") == replace(golden_header, environment="")


@pytest.fixture(scope="module")
def coded() -> bytes:
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(smooth_images(3)), batch_size=2, chained=True)
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
    header, payload = unpack(data, "file")
    values = [getattr(header, name) for name in Header.__dataclass_fields__]
    values[field] = value
    head = msgpack.packb([list(v) if isinstance(v, tuple) else v for v in values])
    body = data[:8] + struct.pack("<BBI", 1, 0, len(head)) + head + payload.astype("<u4").tobytes()
    return body + struct.pack("<I", zlib.crc32(body))


FORGERIES = [None, -1, 0, 1, 3, 2**31, 2**62, "x", "x" * 70000, b"", b"\0" * 12, b"\xff" * 5000, [], [1], [[1, 2]], 1.5]


@pytest.mark.parametrize("field", range(len(Header.__dataclass_fields__)))
def test_forged_header_fields_never_give_wrong_pixels(coded: bytes, field: int) -> None:
    images = smooth_images(3).numpy()
    for value in [*FORGERIES, True, False, [3, 8, 9], [[8, 8]] * 3, [[4, 8]] * 3, ["a", "b", "c"], "LLL"]:
        try:
            decoded = list(decode(ToyVAE(), IDENTITY, forged(coded, field, value), "forged.zoo"))
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
    with pytest.raises(UserError, match="far more pixels"):
        unpack(forged(coded, 11, [[100_000, 100_000]] * 3), "forged.zoo")


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 2), dtype=np.uint8)
    for name in ("../x.png", "/etc/x.png", "a/b.png", "..", "", "a\\b"):
        with pytest.raises(UserError, match="plain file name"):
            save_image(tmp_path, name, "R", pixels)
    assert list(tmp_path.iterdir()) == []


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
