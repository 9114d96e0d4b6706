import io

import numpy as np
import pytest
from PIL import Image

from zoo.benchmarks.measures import baselines
from zoo.data.locate import locate
from zoo.data.packed import PackedSplit
from zoo.errors import UserError


@pytest.fixture(scope="module")
def photos():
    return PackedSplit(locate("photos"), "test").images(range(1))


def test_tiles_are_the_windows_that_evaluation_reads(photos):
    from zoo.data import open_split

    batches = [x for x, _ in open_split("photos", "test", (3, 32, 32), limit=1, batch_size=3)]
    seen = np.concatenate([x.permute(0, 2, 3, 1).numpy() for x in batches])
    assert np.array_equal(baselines.tiles_of(photos, 32), seen)


def test_montage_holds_every_pixel_once(photos):
    many = np.concatenate([photos] * 3)
    whole = baselines.montage(many)
    assert whole.size == many.size
    assert np.array_equal(np.sort(whole, axis=None), np.sort(many, axis=None))
    assert whole.shape == (64, 192, 3)
    assert np.array_equal(whole[:, 64:128], many[1])


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_sizes_are_those_of_real_files(photos, bits):
    codecs = baselines.available() if bits == 8 else [baselines.PNG]
    found = baselines.code_images(photos, bits, 32, {"dataset": "photos"}, codecs)
    png = {line.settings["layout"]: line.values for line in found if line.subject == "PNG"}
    assert (png["montage"]["bytes"] < png["tiles"]["bytes"]) or bits == 1
    for line in found:
        assert line.values["bits/dim"] == pytest.approx(8 * line.values["bytes"] / photos.size)
    if bits == 8:
        expected = 0
        for part in baselines.tiles_of(photos, 32):
            stream = io.BytesIO()
            Image.fromarray(part).save(stream, "PNG", optimize=True)
            expected += len(stream.getvalue())
        assert png["tiles"]["bytes"] == expected


def test_fewer_bits_cost_less(photos):
    size = {bits: baselines.code_images(photos, bits, 32, {}, [baselines.PNG])[0].values["bytes"] for bits in (8, 5)}
    assert size[5] < size[8]


def test_a_codec_that_changes_pixels_is_refused(photos):
    jpeg = baselines.ClassicalCodec("JPEG", "JPEG", {"quality": 95}, "")
    with pytest.raises(UserError, match="not lossless"):
        baselines.code_file(jpeg, photos[0])


def test_grey_images_work():
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), dtype=np.uint8)
    for line in baselines.code_images(noise, 8, 32, {}):
        assert line.values["bits/dim"] > 8
