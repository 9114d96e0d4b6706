"""docs/format.md says what a file is: a reader written from it agrees with the codec on every file."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.campaigns.zoo_files import KINDS, campaign
from tests.codec import reader
from tests.codec.test_stream import IDENTITY, smooth_images
from tests.codec.toy import ToyVAE
from zoo.codec import Entry, Header, Options, encode, from_batch, pack, unpack

NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20).map(lambda t: f"{t}x")
SIDES = st.integers(1, 40)
SHAPES = st.one_of(
    st.tuples(st.just("R"), st.tuples(SIDES, SIDES)),
    st.tuples(st.just("L"), st.tuples(SIDES, SIDES)),
    st.tuples(st.just("1"), st.tuples(SIDES, SIDES)),
    st.tuples(st.just("A"), st.tuples(st.integers(1, 5), SIDES, SIDES, st.sampled_from([1, 3]))),
)
EXTRAS = st.dictionaries(st.sampled_from(["icc", "alpha", "gAMA", "orientation"]), st.binary(max_size=40))


@st.composite
def headers(draw: st.DrawFn) -> Header:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique_by=lambda name: name.casefold()))
    entries = [Entry(f"{n}-{name}", *draw(SHAPES), draw(EXTRAS)) for n, name in enumerate(names)]
    tiles = sum(entry.count * -(-entry.size[0] // 8) * -(-entry.size[1] // 8) for entry in entries)
    return Header(
        model=draw(st.binary(min_size=12, max_size=12)),
        shape=(3, 8, 8),
        bits=draw(st.integers(1, 8)),
        chained=draw(st.booleans()),
        batches=[1, tiles],
        seed=draw(st.integers(0, 2**63 - 1)),
        whitened=draw(st.integers(0, 2**32 - 1)),
        steps=draw(st.integers(0, 1000)),
        profile=zlib.compress(draw(st.binary(max_size=200))),
        checksum=draw(st.binary(min_size=8, max_size=8)),
        first=draw(st.binary(min_size=4, max_size=4)),
        environment="2.13.0/2.3.0/0.5.0/1/AVX2-portable",
        entries=entries,
    )


@settings(max_examples=150, deadline=None)
@given(headers(), st.lists(st.integers(0, 2**32 - 1), min_size=40, max_size=60), st.booleans())
def test_reader_and_codec_agree_on_every_header(header: Header, words: list[int], portable: bool) -> None:
    payload = np.array([*words, 1], dtype=np.uint32)
    data = pack(header, payload, portable)
    back, words_back = unpack(data, "file")
    assert back == header
    assert np.array_equal(words_back, payload)
    seen = reader.read(data)
    assert seen.portable == portable
    assert seen.payload == payload.tolist()
    assert [seen.header["seed"], seen.header["batches"]] == [header.seed, header.batches]
    assert reader.pictures(seen.header) == header.sizes
    for number, entry in enumerate(header.entries):
        assert seen.header["entries"][number][:3] == [entry.name, entry.mode, list(entry.shape)]
        assert reader.extras(seen.header, number) == entry.extras


def test_reader_checks_pixels_of_a_real_file() -> None:
    x = smooth_images(5).numpy()
    data, _ = encode(ToyVAE(), IDENTITY, from_batch(smooth_images(5)), Options(2))
    seen = reader.read(data)
    assert seen.header["checksum"] == reader.checksum([((3, 8, 8), image.tobytes()) for image in x])


def test_reader_knows_the_golden_file() -> None:
    golden = Path(__file__).parent / "data" / "golden-v2.zoo"
    assert reader.pictures(reader.read(golden.read_bytes()).header) == [(4, 4)] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_the_right_pixels_or_one_error(kind: str) -> None:
    """The campaign of `scripts/campaigns/zoo_files.py`, in short."""
    row = campaign(kind, count=60, seed=1)
    assert row.tried == 60
    assert row.right + row.error == 60
    assert row.slowest < 10.0
