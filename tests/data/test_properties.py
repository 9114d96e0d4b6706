"""Readers over sources that nobody thought of: what was put in comes out, and bytes that mean nothing are one line."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.data import formats
from zoo.data.images import decode
from zoo.data.packed import PackedSplit
from zoo.data.prepare import Preparation, prepare
from zoo.data.readers import ReadOptions, open_source
from zoo.errors import UserError
from zoo.imagefiles import kind_of

FEW = settings(max_examples=20, deadline=None)
sides = st.integers(2, 9)


@st.composite
def stacks(draw, channels=(1, 3)):
    """(N, H, W, C) uint8, in no layout but this one."""
    height, width = draw(sides.filter(lambda side: side != 3)), draw(sides)
    shape = (draw(st.integers(1, 6)), height, width, draw(st.sampled_from(channels)))
    return draw(arrays.arrays(np.uint8, shape))


@FEW
@given(images=stacks(), data=st.data())
def test_arrays_and_labels_come_out_as_they_went_in(images, data):
    labels = data.draw(arrays.arrays(np.int32, len(images), elements=st.integers(-1, 2**31 - 1)))
    with tempfile.TemporaryDirectory() as place:
        source, output = Path(place) / "x", Path(place) / "x.h5"
        source.write_bytes(formats.npz(images=images, labels=labels))
        prepare(Preparation("folder", source, output, rule="test"))
        split = PackedSplit(output, "test")
        rows = data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1))
        np.testing.assert_array_equal(split.images(rows), images[rows])
        np.testing.assert_array_equal(split.labels(rows), labels[rows])


@FEW
@given(images=stacks(channels=(1,)), compressed=st.booleans())
def test_idx_files_come_out_as_they_went_in(images, compressed):
    import gzip

    with tempfile.TemporaryDirectory() as place:
        content = formats.idx(images[..., 0])
        path = Path(place) / "train-images-idx3-ubyte"
        path.write_bytes(gzip.compress(content) if compressed else content)
        (part,) = open_source("mnist", path, ReadOptions()).parts
        np.testing.assert_array_equal(np.stack([item.image for item in part.items()]), images)


@FEW
@given(images=stacks(), kind=st.sampled_from(["PNG", "BMP", "PPM", "TIFF", "WEBP"]))
def test_pictures_without_loss_are_decoded_to_their_pixels(images, kind):
    image = images[0]
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode(buffer.getvalue(), "a picture", channels=image.shape[2])
    np.testing.assert_array_equal(found.pixels, image)


@pytest.mark.parametrize("name", ["folder", "mnist", "cifar10", "imagenet32-box", "imagenet32-small", "celebahq256"])
@FEW
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x1f\x8b"]))
def test_bytes_that_mean_nothing_are_one_line(name, content, start):
    if kind_of(start + content) in ("bmp", "pnm"):
        return  # a picture can be as short as this
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "x"
        path.write_bytes(start + content)
        with pytest.raises(UserError) as caught:
            prepare(Preparation(name, path, Path(place) / "x.h5", verify=False))
        assert place in str(caught.value)
        assert "\n" not in str(caught.value)
        assert [file.name for file in Path(place).iterdir()] == ["x"]
