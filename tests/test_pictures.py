"""Grids and plots: everything is there, large enough, and drawn alike in pixels and SVG."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.pictures import Curve, Plot, grid, save_grid, save_plot
from zoo.pictures.grid import GAP, VISIBLE
from zoo.pictures.plot import log_ticks, nice_ticks, picture, svg


def noise(count, channels, height, width):
    return np.random.default_rng(0).integers(0, 255, (count, channels, height, width), dtype=np.uint8)


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    side=st.sampled_from([4, 28, 32, 100]),
    columns=st.one_of(st.none(), st.integers(1, 6)),
)
def test_every_image_lies_in_the_grid_pixel_for_pixel(count, channels, side, columns):
    images = noise(count, channels, side, side)
    sheet = grid(images, columns)
    width = columns or int(np.ceil(np.sqrt(count)))
    shown = (sheet.shape[1] + GAP) // width - GAP
    assert shown % side == 0
    assert shown >= min(VISIBLE, side * 40) or max(sheet.shape) > 1000
    for index in range(count):
        y, x = index // width * (shown + GAP), index % width * (shown + GAP)
        part = sheet[y : y + shown, x : x + shown][:: shown // side, :: shown // side]
        assert (part == images[index].transpose(1, 2, 0)).all()


def test_large_images_keep_their_size():
    assert grid(noise(2, 3, 256, 256), columns=2).shape == (256, 2 * 256 + GAP, 3)


def test_words_take_their_own_room_and_are_cut(tmp_path):
    images = noise(4, 1, 32, 32)
    plain = grid(images, columns=2)
    worded = grid(images, columns=2, heads=["left", "a very long heading " * 20], captions=["1", "2", "3", "4"])
    assert worded.shape[2] == 3
    assert worded.shape[0] > plain.shape[0]
    assert worded.shape[1] == plain.shape[1]
    save_grid(images, tmp_path / "a.png", 2, captions=["1", "2", "3", "4"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (worded.shape[1], image.size[1])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.17, 2.43), (-3.0, 1000.0), (5.0, 5.0)])
def test_ticks_cover_the_interval(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (3.0, 70.0), (0.25, 100.0), (1e3, 1e10)])
def test_logarithmic_ticks_cover_the_interval(low, high):
    ticks = log_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high


PLOT = Plot(
    [
        Curve("first", [(1, 0.0), (10, 1.0)], band=[0.1, 0.2]),
        Curve("second <b>", [(1, 1.0), (100, 0.5)], dashed=True, notes=["a & b", ""]),
    ],
    "Title",
    "x, unit",
    "y, unit",
    log_x=True,
)


def test_pixels_show_every_curve_in_its_colour(tmp_path):
    colours = {colour for _, colour in picture(PLOT).getcolors(1 << 20)}
    assert {(0x2F, 0x6D, 0xB5), (0xD1, 0x60, 0x2F)} < colours
    save_plot(tmp_path / "p.png", PLOT)
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == PLOT.size


def test_svg_says_the_same_and_escapes_words():
    text = svg(PLOT)
    for word in ("Title", "x, unit", "y, unit", "first", "second &lt;b&gt;", "a &amp; b"):
        assert word in text
    assert "<b>" not in text
    assert text.count("<circle") >= 4
    places = [float(value) for value in re.findall(r' c[xy]="([^"]+)"', text)]
    assert all(0 <= value <= max(PLOT.size) for value in places)


def test_empty_plot_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing"):
        save_plot(tmp_path / "p.png", Plot([Curve("a", [])], "", "", ""))
    assert not (tmp_path / "p.png").exists()
