"""Prepared files: whole or not there, and what is in them is known."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data import formats
from zoo.data.packed import PackedSplit, describe
from zoo.data.prepare import Preparation, prepare
from zoo.data.verify import contact_sheet, statistics, verify
from zoo.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def cifar(tmp_path) -> Path:
    path, _ = formats.write_cifar(tmp_path)
    output = tmp_path / "c.h5"
    prepare(Preparation("cifar10", path, output, verify=False))
    return output


def test_splits_keep_the_order_of_the_source(tmp_path):
    path, made = formats.write_cifar(tmp_path)
    prepare(Preparation("cifar10", path, tmp_path / "c.h5", verify=False))
    held_out = np.sort(np.random.RandomState(11172018).permutation(20)[:2])
    rest = np.setdiff1d(np.arange(20), held_out)
    for split, rows in (("val", held_out), ("train", rest)):
        packed = PackedSplit(tmp_path / "c.h5", split)
        np.testing.assert_array_equal(packed.images(np.arange(len(rows))), made["train"][rows])


def test_provenance_is_recorded(cifar, tmp_path):
    import hashlib
    import json

    attributes = describe(cifar).attributes
    source = tmp_path / "cifar-10-python.tar.gz"
    assert json.loads(attributes["sources"]) == {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}
    assert "11172018" in attributes["split_rule"]
    assert not attributes["verified"]


def test_pixel_digest_is_of_the_pixels(cifar):
    import hashlib

    packed = PackedSplit(cifar, "test")
    assert hashlib.sha256(packed.images(np.arange(4)).tobytes()).hexdigest() == packed.info.sha256


def test_preparing_twice_gives_the_same_bytes(cifar, tmp_path):
    again = tmp_path / "again.h5"
    prepare(Preparation("cifar10", tmp_path / "cifar-10-python.tar.gz", again, verify=False))
    assert again.read_bytes() == cifar.read_bytes()


def test_wrong_digest_is_named(tmp_path):
    path, _ = formats.write_cifar(tmp_path)
    with pytest.raises(UserError, match=r"50000|expected 50,000"):
        prepare(Preparation("cifar10", path, tmp_path / "c.h5"))
    with pytest.raises(UserError, match="official file has c58f30108f718f92721af3b95e74349a"):
        prepare(Preparation("cifar10", path, tmp_path / "c.h5", limit=2))
    assert not (tmp_path / "c.h5").exists()


@pytest.mark.parametrize(("named", "count", "right"), [("small", 50_000, "box"), ("box", 49_999, "small")])
def test_the_count_tells_the_imagenet_variants_apart(tmp_path, named, count, right):
    array = np.zeros((count, 3072), np.uint8)
    if named == "small":
        source = tmp_path / "imagenet32-valid.npy"
        np.save(source, array.reshape(count, 32, 32, 3))
    else:
        source = tmp_path / "val_data.npz"
        np.savez(source, data=array)
    with pytest.raises(UserError, match=f"this is the {right} variant: use the name imagenet32-{right}"):
        prepare(Preparation(f"imagenet32-{named}", source, tmp_path / "out.h5"))


def test_limited_files_have_their_own_variant(tmp_path):
    path, _ = formats.write_cifar(tmp_path)
    info = prepare(Preparation("cifar10", path, tmp_path / "c.h5", verify=False, limit=3))
    assert info.variant == "cifar10-first3"
    assert {name: split.shape[0] for name, split in info.splits.items()} == {"train": 2, "val": 1, "test": 3}


def test_every_flipped_byte_is_found(cifar):
    content = cifar.read_bytes()
    verify(cifar)
    random = np.random.default_rng(0).choice(len(content), 60, replace=False).tolist()
    for position in [5, 20, 300, 511, 512, *random]:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        cifar.write_bytes(damaged)
        with pytest.raises(UserError):
            verify(cifar)


def test_damaged_files_are_refused_when_they_are_opened(cifar):
    content = cifar.read_bytes()
    assert len(PackedSplit(cifar, "test").images([0])) == 1
    for position in [*range(0, 1200, 37), *range(1200, len(content), len(content) // 40)]:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        cifar.write_bytes(damaged)
        with pytest.raises(UserError):
            PackedSplit(cifar, "test").images([0])


def test_a_file_cut_while_it_is_mapped_is_one_line(cifar):
    split = PackedSplit(cifar, "test")
    split.images([0])
    os.truncate(cifar, 4096)
    with pytest.raises(UserError, match="cut short while it was read"):
        split.images([3])


def resealed(path, change):
    """A file of ours after a change by somebody who also mends the seal."""
    from zoo.data.seals import seal

    with h5py.File(path, "r+", locking=False) as file:
        change(file)
    seal(path)


def test_files_that_refer_to_others_are_refused(cifar, tmp_path):
    other = tmp_path / "secret.h5"
    secret = np.full((4, 32, 32, 3), 7, np.uint8)
    with h5py.File(other, "w") as file:
        file["images"] = secret
    (tmp_path / "secret.bin").write_bytes(secret.tobytes())

    def link(file):
        del file["test/images"]
        file["test/images"] = h5py.ExternalLink(str(other), "images")

    def external(file):
        del file["test/images"]
        segments = [(str(tmp_path / "secret.bin"), 0, secret.nbytes)]
        file["test"].create_dataset("images", secret.shape, np.uint8, external=segments)

    def virtual(file):
        del file["test/images"]
        layout = h5py.VirtualLayout(secret.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(other), "images", shape=secret.shape)
        file["test"].create_virtual_dataset("images", layout)

    def soft(file):
        del file["test/images"]
        file["test/images"] = h5py.SoftLink("/train/images")

    def claimed(file):
        del file["test/images"]
        file["test"].create_dataset("images", (1 << 40, 32, 32, 3), np.uint8)

    def packed(file):
        del file["test/images"]
        file["test"].create_dataset("images", data=secret, compression="gzip")

    content = cifar.read_bytes()
    for change in (link, external, virtual, soft, claimed, packed):
        cifar.write_bytes(content)
        resealed(cifar, change)
        with pytest.raises(UserError, match=r"c\.h5: cannot be read"):
            PackedSplit(cifar, "test").images([0])


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_stored_png_is_one_line(tmp_path, workers):
    from zoo.data.datamodule import ImageDataModule

    source = tmp_path / "source"
    source.mkdir()
    for i, image in enumerate(formats.pixels(4, 512, 512)):
        (source / f"{i}.png").write_bytes(formats.image_file(image, compress_level=1))
    prepare(Preparation("folder", source, tmp_path / "p.h5", rule="test"))
    content = (tmp_path / "p.h5").read_bytes()
    at = content.index((source / "2.png").read_bytes())
    (tmp_path / "p.h5").write_bytes(content[: at + 20_000] + bytes(1000) + content[at + 21_000 :])
    with pytest.raises(UserError) as caught:
        list(ImageDataModule(str(tmp_path / "p.h5"), batch_size=1, num_workers=workers).test_dataloader())
    assert str(caught.value).startswith(str(tmp_path / "p.h5"))
    assert "\n" not in str(caught.value)
    from zoo.data.seals import seal

    seal(tmp_path / "p.h5")  # as if it had been written so
    with pytest.raises(UserError, match="test image 2: cannot be read"):
        list(ImageDataModule(str(tmp_path / "p.h5"), batch_size=1, num_workers=workers).test_dataloader())


def test_stored_pngs_are_read_over_the_borders_of_pieces(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    made = np.random.default_rng(0).integers(0, 256, (3, 700, 700, 3), dtype=np.uint8)  # 1.5 MB each as PNG
    for i, image in enumerate(made):
        (source / f"{i}.png").write_bytes(formats.image_file(image, compress_level=1))
    prepare(Preparation("folder", source, tmp_path / "p.h5", rule="test"))
    np.testing.assert_array_equal(PackedSplit(tmp_path / "p.h5", "test").images([2, 0, 1]), made[[2, 0, 1]])


def test_cut_short_files_do_not_verify(cifar):
    content = cifar.read_bytes()
    for size in (0, 100, 512, 3000, len(content) - 1):
        cifar.write_bytes(content[:size])
        with pytest.raises(UserError):
            verify(cifar)


def test_foreign_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/images"] = np.zeros((2, 4, 4, 3), np.uint8)
    for path, message in ((tmp_path / "x.h5", "not a file of"), (tmp_path / "y.h5", "no such data file")):
        with pytest.raises(UserError, match=message):
            describe(path)


def test_a_killed_prepare_leaves_nothing_that_opens(tmp_path):
    source, output = tmp_path / "x.npy", tmp_path / "out" / "big.h5"
    np.lib.format.open_memmap(source, "w+", np.uint8, (16_000, 64, 64, 3)).flush()  # sparse: 200 MB of holes
    command = [sys.executable, "-m", "zoo", "data", "prepare", "folder", "--source", source, "--output", output]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until pixels have been written
        parts = list(output.parent.glob(".big.*.part.h5"))
        if parts and parts[0].stat().st_size > 1 << 20:
            break
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    (left,) = output.parent.glob(".big.*.part.h5")
    with pytest.raises(UserError):
        describe(left)
    small = tmp_path / "small.npy"
    np.save(small, formats.pixels(3, 8, 8))
    prepare(Preparation("folder", small, output))  # starts over, and clears away what was left
    assert sorted(file.name for file in output.parent.iterdir()) == ["big.h5"]
    source.unlink()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    code = (
        "import sys; from pathlib import Path; from zoo.data.prepare import Preparation, prepare\n"
        "prepare(Preparation('folder', Path(sys.argv[1]), Path(sys.argv[1] + '.h5')))\n"
        "print(next(l for l in open('/proc/self/status') if 'VmHWM' in l).split()[1])"
    )
    peaks = []
    for count in (10_000, 50_000):  # 31 and 154 MB of pixels
        source = tmp_path / f"{count}.npy"
        np.lib.format.open_memmap(source, "w+", np.uint8, (count, 32, 32, 3)).flush()
        done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 30, peaks


def test_failure_keeps_the_old_file(cifar, tmp_path):
    before = cifar.read_bytes()
    formats.write_mnist(tmp_path, compressed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes((tmp_path / "train-images-idx3-ubyte").read_bytes()[:-1])
    with pytest.raises(UserError):
        prepare(Preparation("mnist", tmp_path, cifar, verify=False))
    assert cifar.read_bytes() == before
    assert not list(tmp_path.glob(".c.*"))


def test_two_writers_of_one_file_exclude_each_other(tmp_path):
    from zoo.data.writer import new_file

    def second_writer():
        with new_file(tmp_path / "a.h5"):
            pass

    with new_file(tmp_path / "a.h5"), pytest.raises(UserError, match="another process"):
        second_writer()


def test_statistics_agree_with_numpy(cifar):
    packed = PackedSplit(cifar, "test")
    images = packed.images(np.arange(len(packed))).astype(np.float64)
    found = statistics(cifar, "test")
    np.testing.assert_allclose(found.mean, images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.variance, images.var((0, 1, 2)), rtol=1e-12)
    assert found.classes == {6: 1, 7: 1, 8: 1, 9: 1}


def test_contact_sheet_shows_the_images(cifar, tmp_path):
    from PIL import Image

    contact_sheet(cifar, "test", tmp_path / "sheet.png", count=4)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (196, 196, 3)  # every pixel three times, a gap of four
    np.testing.assert_array_equal(sheet[100::3, :96:3], PackedSplit(cifar, "test").images([2])[0])


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no ../shared/data/mnist")
def test_real_mnist_test_set_has_the_official_digests(tmp_path):
    info = prepare(Preparation("mnist", SHARED / "mnist", tmp_path / "m.h5"))
    assert info.attributes["verified"]
    assert info.splits["test"].shape == (10_000, 28, 28, 1)
    found = statistics(tmp_path / "m.h5", "test")
    assert found.classes[1] == 1135
    assert found.mean[0] / 255 == pytest.approx(0.1325, abs=1e-4)  # the test set's known mean


@pytest.mark.skipif(not (SHARED / "fashion-mnist").is_dir(), reason="no ../shared/data/fashion-mnist")
def test_real_fashion_mnist_has_the_official_digests(tmp_path):
    info = prepare(Preparation("fashion-mnist", SHARED / "fashion-mnist", tmp_path / "f.h5"))
    assert info.attributes["verified"]
    assert {name: split.shape[0] for name, split in info.splits.items()} == {
        "train": 55_000,
        "val": 5000,
        "test": 10_000,
    }
    assert set(statistics(tmp_path / "f.h5", "test").classes.values()) == {1000}


@pytest.mark.skipif(not (SHARED / "photos128").is_dir(), reason="no ../shared/data/photos128")
def test_real_photographs(tmp_path):
    source = tmp_path / "some"
    source.mkdir()
    for path in sorted((SHARED / "photos128").glob("*.png"))[:30]:
        shutil.copy(path, source)
    info = prepare(Preparation("folder", source, tmp_path / "p.h5", resolution=64, filter="box"))
    assert info.splits["train"].shape == (27, 64, 64, 3)
    verify(tmp_path / "p.h5")
    from PIL import Image

    first = np.asarray(Image.open(sorted(source.glob("*.png"))[0]).convert("RGB")).astype(int)
    mean = first.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(PackedSplit(tmp_path / "p.h5", "train").images([0])[0] - mean).max() <= 1


def test_bundled_photographs_are_whole_and_split_by_photograph():
    import json

    from zoo.data.locate import BUNDLED

    info = verify(BUNDLED)
    photographs = json.loads(info.attributes["photographs"])
    files = [photo["file"] for photo in photographs]
    assert len(files) == len(set(files))
    for split in ("train", "val", "test"):
        mine = [photo for photo in photographs if photo["split"] == split]
        assert sum(photo["blocks"] for photo in mine) == info.splits[split].shape[0]
        assert all(photo["factor"] >= 4 and photo["licence"] and photo["author"] for photo in mine)
    assert os.path.getsize(BUNDLED) <= 8_000_000
    attribution = BUNDLED.with_name("ATTRIBUTION.md").read_text()
    assert all(photo["author"] in attribution for photo in photographs)
