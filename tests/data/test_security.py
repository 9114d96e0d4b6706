"""Hostile sources."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.data import formats
from zoo.data.images import decode
from zoo.data.prepare import Preparation, prepare
from zoo.data.trees import open_tree, unpack
from zoo.data.unpickling import load_batch
from zoo.errors import UserError


class _Runs:
    """Pickles to a call of os.system."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_cannot_run_anything(tmp_path, protocol):
    target = tmp_path / "ran"
    with pytest.raises(UserError, match="refused as a dataset batch"):
        load_batch(pickle.dumps({"data": _Runs(target)}, protocol=protocol), "x")
    assert not target.exists()


def test_pickles_reach_no_builtins_through_dotted_names():
    for payload in (b"cbuiltins\neval\n(S'1'\ntR.", b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.fly\x93."):
        with pytest.raises(UserError, match="refused"):
            load_batch(payload, "x")


def test_damaged_pickles_are_user_errors():
    good = formats.py2_batch(np.zeros((2, 3072), np.uint8), [1, 2])
    assert load_batch(good, "x")["labels"] == [1, 2]
    for size in range(0, len(good), 97):
        with pytest.raises(UserError):
            load_batch(good[:size], "x")


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_cannot_write_outside_their_folder(tmp_path, name, kind):
    image = formats.image_file(formats.pixels(1, 8, 8)[0])
    write = formats.write_zip if kind == "zip" else formats.write_tar
    path = write(tmp_path / f"a.{kind}", {"good.png": image, name: image})
    with pytest.raises(UserError, match="outside its folder"):
        prepare(Preparation("folder", path, tmp_path / "out" / "x.h5", rule="test", verify=False))
    assert [file.name for file in tmp_path.rglob("*")] == [path.name]


def test_unpacking_checks_again(tmp_path):
    tree = open_tree(formats.write_zip(tmp_path / "a.zip", {"good.png": b"x"}))
    tree.names = ["../good.png"]
    with pytest.raises(UserError, match="outside its folder"):
        list(unpack(tree, tmp_path / "folder"))


def test_links_in_archives_and_out_of_folders_are_not_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(formats.image_file(formats.pixels(1, 8, 8)[0]))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    assert open_tree(tmp_path / "a.tar").names == []
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.png").symlink_to(secret)
    assert open_tree(folder).names == []


def _png_header(width, height) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_image_bombs_are_refused_before_they_unfold():
    with pytest.raises(UserError, match="refused as a bomb"):
        decode(_png_header(60_000, 60_000), "bomb.png")


def test_zip_bombs_are_refused(tmp_path):
    formats.write_zip(tmp_path / "a.zip", {"x.png": bytes(30 << 20)})
    with pytest.raises(UserError, match="refused"):
        prepare(Preparation("folder", tmp_path / "a.zip", tmp_path / "x.h5"))


def test_zip_members_that_lie_about_their_size(tmp_path):
    path = formats.write_zip(tmp_path / "a.zip", {"x.png": bytes(1 << 20)})
    content = path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 64))
    path.write_bytes(content)
    with pytest.raises(UserError):
        prepare(Preparation("folder", path, tmp_path / "x.h5"))


@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: c[:40] + bytes(60) + c[100:], lambda c: b"no"]
)
def test_damaged_images_are_named(tmp_path, damage):
    source = tmp_path / "source"
    source.mkdir()
    (source / "bad.png").write_bytes(damage(formats.image_file(formats.pixels(1, 64, 64)[0])))
    with pytest.raises(UserError, match=r"bad\.png"):
        prepare(Preparation("folder", source, tmp_path / "x.h5"))


def test_object_arrays_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([_Runs(tmp_path / "ran")], object), allow_pickle=True)
    with pytest.raises(UserError, match="Python objects"):
        prepare(Preparation("folder", tmp_path / "x.npy", tmp_path / "x.h5"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.npy", "x.npz", "x.h5", "x.tar.gz"])
def test_garbage_of_every_suffix_is_a_user_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"garbage" * 100)
    with pytest.raises(UserError, match="x"):
        prepare(Preparation("folder", tmp_path / name, tmp_path / "out.h5"))


def test_zip_with_encrypted_member(tmp_path):
    path = formats.write_zip(tmp_path / "a.zip", {"x.png": formats.image_file(formats.pixels(1, 8, 8)[0])})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    assert zipfile.ZipFile(io.BytesIO(content)).infolist()[0].flag_bits & 1
    with pytest.raises(UserError, match=r"x\.png"):
        prepare(Preparation("folder", path, tmp_path / "x.h5"))


def peak_and_seconds(code, *arguments):
    """What a fresh process that runs this code prints, its peak memory in MB beyond the imports, and its seconds."""
    prelude = """
import resource, sys, time
from pathlib import Path
import zoo.data.readers.faces, zoo.data.readers.folder, zoo.data.readers.mnist
from zoo.data.prepare import Preparation, prepare
from zoo.data.unpickling import load_batch
from zoo.errors import UserError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def tried(act):
    try:
        act()
        print("taken")
    except UserError as error:
        print(error)

before, start = peak(), time.time()
"""
    ending = "\nprint(peak() - before, time.time() - start)\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code + ending, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    *said, figures = done.stdout.splitlines()
    return said, *map(float, figures.split())


def bombs(folder):
    """Small files that claim or unfold to gigabytes, with the data set whose reader takes them."""
    zeros = gzip.compress(bytes(64 << 20), 9)
    sizes = struct.pack(">HBBIII", 0, 8, 3, 1, 60_000, 60_000)
    (folder / "idx").mkdir()
    (folder / "idx" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(sizes) + zeros)
    yield "mnist", folder / "idx"
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0)
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header + b" " * (64 << 20))
    yield "folder", folder / "x.npz"
    shape = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 100000, 100000, 3), }".ljust(117) + b"\n"
    (folder / "claims.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape)
    yield "folder", folder / "claims.npy"
    (folder / "train_records").mkdir()
    message = formats._field(1, formats._field(1, b"\x80" * (1 << 20)))
    (folder / "train_records" / "a.tfrecords").write_bytes(formats.tfrecord([message]))
    yield "celebahq256", folder / "train_records"
    (folder / "long").mkdir()
    length = struct.pack("<Q", 1 << 62)
    (folder / "long" / "a.tfrecords").write_bytes(length + formats._masked(length) + bytes(100))
    yield "celebahq256", folder / "long"
    with tarfile.open(folder / "pax.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 600 << 20
        tar.addfile(info, io.BytesIO(bytes(600 << 20)))
    yield "folder", folder / "pax.tar.gz"


def test_bombs_cost_neither_memory_nor_time(tmp_path):
    cases = list(bombs(tmp_path))
    code = "for name, source in zip(sys.argv[1::2], sys.argv[2::2]):\n"
    code += "    tried(lambda: prepare(Preparation(name, Path(source), Path('x.h5'), rule=None, verify=False)))"
    said, megabytes, seconds = peak_and_seconds(code, *(word for case in cases for word in case))
    assert len(said) == len(cases)
    assert "taken" not in said
    assert all(str(source) in line for line, (_, source) in zip(said, cases, strict=True)), said
    assert megabytes < 400
    assert seconds < 60


PICKLE_BOMBS = {
    "memo": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 4 << 30) + b".",
    "bytes": b"\x80\x03B\xff\xff\xff\x7f.",
    "bytes8": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "unicode": b"\x80\x02X\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b".",
    "array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    b"\x8a\x05\x00\x00\x00\x00\x10\x85U\x01b\x87R.",
    "number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02K\x01Q.",
}


def test_pickles_that_claim_gigabytes(tmp_path):
    for name, content in PICKLE_BOMBS.items():
        (tmp_path / name).write_bytes(content)
    code = "for path in sys.argv[1:]:\n    tried(lambda: load_batch(Path(path).read_bytes(), path))"
    said, megabytes, seconds = peak_and_seconds(code, *(tmp_path / name for name in PICKLE_BOMBS))
    assert len(said) == len(PICKLE_BOMBS)
    assert "taken" not in said
    assert megabytes < 100
    assert seconds < 20
