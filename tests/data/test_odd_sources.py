"""What real folders and arrays hold besides plain 8-bit pictures: refused by name, or counted in a line."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data import formats
from zoo.data.packed import PackedSplit
from zoo.data.prepare import Preparation, prepare
from zoo.errors import UserError
from zoo.imagefiles import files_below, find_pictures, kind_of, open_picture

PICTURE = formats.pixels(1, 8, 12)[0]


def pack(source, tmp_path, **options):
    """Pixels of the test split, and the notes."""
    output = tmp_path / "out.h5"
    info = prepare(Preparation("folder", source, output, **{"rule": "test"} | options))
    split = PackedSplit(output, "test")
    return split.images(range(len(split))), json.loads(info.attributes["notes"])


def folder(tmp_path, **files: bytes):
    source = tmp_path / "in"
    source.mkdir()
    for name, content in files.items():
        (source / name.replace("_", ".")).write_bytes(content)
    return source


def deep_png(colour: int) -> bytes:
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = b"".join(b"\0" + os.urandom(2 * 4 * channels) for _ in range(4))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(array: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


DEEP = {
    "grey16.png": deep_png(0),
    "rgb16.png": deep_png(2),
    "rgba16.png": deep_png(6),
    "grey16.tif": saved(np.full((4, 4), 5000, np.uint16), "TIFF"),
    "int32.tif": saved(np.full((4, 4), 5000, np.int32), "TIFF"),
    "float.tif": saved(np.full((4, 4), 0.5, np.float32), "TIFF"),
    "grey16.pgm": b"P5 2 2 65535\n" + bytes(8),
    "rgb16.ppm": b"P6 # wide\n2 2 1023\n" + bytes(24),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("resolution", [None, 4])
def test_deep_pixels_are_refused_by_name(tmp_path, name, resolution):
    source = tmp_path / "in"
    source.mkdir()
    (source / name).write_bytes(DEEP[name])
    with pytest.raises(UserError, match=rf"{name}: .*samples, data sets here have 8 bits"):
        pack(source, tmp_path, resolution=resolution)
    assert not (tmp_path / "out.h5").exists()


def test_transparent_pixels_are_refused_and_opaque_alpha_is_counted(tmp_path):
    opaque = np.dstack([PICTURE, np.full((8, 12), 255, np.uint8)])
    source = folder(tmp_path, a_png=saved(opaque, "PNG"), b_png=saved(PICTURE, "PNG"))
    images, notes = pack(source, tmp_path)
    np.testing.assert_array_equal(images, np.stack([PICTURE, PICTURE]))
    assert any(note.startswith("1 picture(s) with an alpha channel") for note in notes)
    opaque[3, 3, 3] = 254
    (source / "a.png").write_bytes(saved(opaque, "PNG"))
    with pytest.raises(UserError, match=r"a\.png: has transparent pixels"):
        pack(source, tmp_path)


def test_a_palette_with_a_transparent_colour_is_refused(tmp_path):
    palette = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) % 4, mode="P")
    palette.putpalette(list(range(12)))
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=2)
    with pytest.raises(UserError, match="transparent"):
        pack(folder(tmp_path, a_png=buffer.getvalue()), tmp_path)


def test_orientation_is_applied_and_counted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = folder(tmp_path, a_png=saved(PICTURE, "PNG", exif=exif.tobytes()))
    images, notes = pack(source, tmp_path)
    np.testing.assert_array_equal(images[0], np.rot90(PICTURE, -1))
    assert any("turned upright" in note for note in notes)


def test_further_frames_are_counted_but_a_cameras_second_picture_is_none(tmp_path):
    first, second = Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)
    moving, camera = io.BytesIO(), io.BytesIO()
    first.save(moving, "PNG", save_all=True, append_images=[second])
    first.save(camera, "MPO", save_all=True, append_images=[second])
    source = folder(tmp_path, a_png=moving.getvalue(), b_jpg=camera.getvalue())
    images, notes = pack(source, tmp_path)
    np.testing.assert_array_equal(images[0], PICTURE)
    assert [note for note in notes if "frames" in note] == [
        "1 picture(s) with further frames or pages, of which the first was taken"
    ]


def test_types_are_told_by_content_and_other_files_are_counted(tmp_path):
    png = saved(PICTURE, "PNG")
    source = folder(tmp_path, picture=png, b_txt=png, readme_md=b"hello", c_gif=saved(PICTURE, "PNG"))
    (source / "._a.png").write_bytes(b"\0\5\x16\7")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "d.png").write_bytes(png)
    images, notes = pack(source, tmp_path)
    assert len(images) == 3
    assert notes == ["1 file(s) that are no pictures, skipped"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"", "empty"),
        (b"\x93NUMPY\x01\0", "numpy array"),
        (b"nothing", "no kind"),
    ],
)
def test_files_that_only_have_the_name_of_a_picture_say_what_they_are(tmp_path, content, said):
    source = folder(tmp_path, a_png=saved(PICTURE, "PNG"), b_jpg=content)
    with pytest.raises(UserError, match=rf"b\.jpg.*{said}"):
        pack(source, tmp_path)
    with pytest.raises(UserError, match=rf"b\.jpg.*{said}"):
        find_pictures([source])
    with pytest.raises(UserError, match=said):
        find_pictures([source / "b.jpg"])


def test_links_out_of_the_folder_are_counted(tmp_path):
    source = folder(tmp_path, a_png=saved(PICTURE, "PNG"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(saved(PICTURE, "PNG"))
    (source / "link.png").symlink_to(tmp_path / "other" / "x.png")
    (source / "links").symlink_to(tmp_path / "other")
    (source / "again.png").symlink_to(source / "a.png")
    images, notes = pack(source, tmp_path)
    assert len(images) == 2
    assert notes == ["2 link(s) that lead out of the folder, not followed"]
    assert files_below(source).names == ["a.png", "again.png"]


@pytest.mark.parametrize("names", [("train2017/a.png", "val2017/a.png"), ("dev/a.png",), ("train/test/a.png",)])
def test_folders_that_look_like_splits_are_not_taken_as_classes(tmp_path, names):
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes(saved(PICTURE, "PNG"))
    with pytest.raises(UserError, match="split"):
        pack(tmp_path / "in", tmp_path)


@pytest.mark.parametrize("name", ["Train", "TRAINING", "train"])
def test_splits_in_other_letters_are_recognised(tmp_path, name):
    for part in (name, "Validation"):
        (tmp_path / "in" / part).mkdir(parents=True)
        (tmp_path / "in" / part / "a.png").write_bytes(saved(PICTURE, "PNG"))
    info = prepare(Preparation("folder", tmp_path / "in", tmp_path / "o.h5"))
    assert {key: split.shape[0] for key, split in info.splits.items()} == {"train": 1, "val": 1}


def test_classes_are_whole_paths_and_what_lies_outside_is_counted(tmp_path):
    for name in ("cat/a/1.png", "dog/a/1.png", "dog/a/2.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(saved(PICTURE, "PNG"))
    _, notes = pack(tmp_path / "in", tmp_path)
    assert notes == ["2 folders taken as classes: cat/a, dog/a"]
    (tmp_path / "in" / "loose.png").write_bytes(saved(PICTURE, "PNG"))
    _, notes = pack(tmp_path / "in", tmp_path)
    assert notes == ["1 picture(s) lie in no class folder, so no labels are taken from folders"]


@pytest.mark.parametrize("shape", [(20, 24, 3), (3, 20, 24), (1, 20, 24), (5, 3, 8, 3), (5, 1, 8, 3), (0, 8, 8, 3)])
def test_arrays_that_can_be_read_in_two_ways_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=r"a\.npy: shape"):
        pack(tmp_path / "a.npy", tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(4),
        np.eye(5, dtype=np.uint8),
        np.arange(5.0),
        np.arange(5)[:, None],
        np.arange(5) - 2,
        np.arange(5, dtype=np.uint64) << np.uint64(40),
        np.array(list("abcde")),
    ],
    ids=str,
)
def test_odd_labels_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=np.zeros((5, 8, 8, 3), np.uint8), labels=labels)
    with pytest.raises(UserError, match="labels"):
        pack(tmp_path / "a.npz", tmp_path)


def test_two_arrays_that_may_be_the_images_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((5, 8, 8, 3), np.uint8), x=np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="expected one of"):
        pack(tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize("ending", ["npz", "npy", "tar", "zip", "bin"])
def test_sources_are_told_by_content(tmp_path, ending):
    images = formats.pixels(4, 8, 12)
    path = tmp_path / f"x.{ending}"
    for content in ("npy", "npz", "tar", "zip"):
        if content == "npy":
            with open(path, "wb") as file:
                np.save(file, images)
        elif content == "npz":
            path.write_bytes(formats.npz(images=images))
        else:
            members = {f"{i}.png": saved(image, "PNG") for i, image in enumerate(images)}
            (formats.write_tar if content == "tar" else formats.write_zip)(path, members)
        packed, _ = pack(path, tmp_path)
        np.testing.assert_array_equal(packed, images)


def test_a_very_narrow_picture_asks_for_no_memory(tmp_path):
    source = folder(tmp_path, a_png=saved(np.zeros((60_000, 1), np.uint8), "PNG"))
    with pytest.raises(UserError, match=r"a\.png: 1x60000 pixels would become"):
        pack(source, tmp_path, resolution=64)


def test_a_webp_canvas_is_refused_before_it_is_made():
    size = (16_383 - 1).to_bytes(3, "little")
    content = b"RIFF" + bytes(4) + b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\x02\0\0\0" + size + size
    with pytest.raises(UserError, match="refused as a bomb"):
        open_picture(content, "a.webp")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_every_kind_is_recognised(kind):
    names = {"PPM": "pnm"}
    assert kind_of(saved(PICTURE, kind)) == names.get(kind, kind.lower())


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    source = folder(tmp_path, a_png=saved(PICTURE, "PNG"))
    (tmp_path / "file").write_bytes(b"")
    steps = []
    for output in (tmp_path / "file" / "x.h5", tmp_path):
        with pytest.raises(UserError, match=r"cannot be written|is a folder"):
            prepare(Preparation("folder", source, output, rule="test"), lambda *step: steps.append(step))
    assert steps == []


def test_a_failed_preparation_leaves_no_empty_folder(tmp_path):
    source = folder(tmp_path, a_png=saved(PICTURE, "PNG"), b_png=saved(PICTURE, "PNG")[:-30])
    with pytest.raises(UserError, match=r"b\.png"):
        prepare(Preparation("folder", source, tmp_path / "new" / "deep" / "x.h5", rule="test"))
    assert not (tmp_path / "new").exists()
