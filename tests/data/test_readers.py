"""Each reader on a tiny source in the true official layout."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest

from tests.data import formats
from zoo.data.packed import PackedSplit, describe
from zoo.data.prepare import Preparation, prepare
from zoo.data.readers.tfrecord import masked_crc
from zoo.data.sources import SourceFile, digest_of, published_digest
from zoo.errors import UserError


def pack(name, source, tmp_path, **options):
    """Prepare without official counts; returns {split: images}, {split: labels}, info."""
    output = tmp_path / f"out-{name}.h5"
    info = prepare(Preparation(name, source, output, **{"verify": False} | options))
    images, labels = {}, {}
    for split in info.splits:
        packed = PackedSplit(output, split)
        rows = np.arange(len(packed))
        images[split], labels[split] = packed.images(rows), packed.labels(rows)
    return images, labels, info


@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_idx(tmp_path, compressed):
    made = formats.write_mnist(tmp_path, compressed=compressed)
    images, labels, info = pack("mnist", tmp_path, tmp_path, rule="full")
    np.testing.assert_array_equal(images["train"], made["train"])
    np.testing.assert_array_equal(images["test"], made["t10k"])
    assert labels["test"].tolist() == [i % 10 for i in range(20)]
    assert info.variant == "mnist"


def test_mnist_cut_short_is_found(tmp_path):
    formats.write_mnist(tmp_path, compressed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="ends after 19 of 20 images"):
        pack("mnist", tmp_path, tmp_path)
    assert not (tmp_path / "out-mnist.h5").exists()


def test_mnist_labels_for_other_images_are_refused(tmp_path):
    formats.write_mnist(tmp_path, compressed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(formats.idx(np.zeros(19, np.uint8)))
    with pytest.raises(UserError, match="19 labels for 20 images"):
        pack("mnist", tmp_path, tmp_path)


@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_labels_cut_short_are_found(tmp_path, compressed):
    formats.write_mnist(tmp_path, compressed=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    content = path.read_bytes()[:-3]
    path.unlink()
    path.with_name(path.name + ".gz" * compressed).write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(UserError, match=r"labels-idx1.*ends after 17 of 20 labels"):
        pack("mnist", tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_sets_in_the_form_of_mnist_hold_out_the_last(tmp_path, name):
    made = formats.write_mnist(tmp_path)
    images, labels, info = pack(name, tmp_path, tmp_path)
    np.testing.assert_array_equal(np.concatenate([images["train"], images["val"]]), made["train"])
    assert len(images["val"]) == 2
    assert labels["test"].tolist() == [i % 10 for i in range(20)]
    assert info.variant == name


@pytest.mark.parametrize("zipped", [True, False])
def test_emnist_in_the_archive_or_unpacked(tmp_path, zipped):
    plain = tmp_path / "plain"
    plain.mkdir()
    made = formats.write_mnist(plain)
    names = {"t10k": "test", "train": "train"}
    members = {
        f"gzip/emnist-balanced-{names[path.name.split('-')[0]]}-{path.name.split('-', 1)[1]}": path.read_bytes()
        for path in plain.iterdir()
    }
    source = tmp_path / "source"
    (source / "gzip").mkdir(parents=True)
    if zipped:
        formats.write_zip(source / "gzip.zip", members | {"gzip/emnist-letters-train-images-idx3-ubyte.gz": b"other"})
    else:
        for name, content in members.items():
            (source / name).write_bytes(content)
    images, _, _ = pack("emnist", source, tmp_path, rule="full")
    np.testing.assert_array_equal(images["train"], made["train"])
    np.testing.assert_array_equal(images["test"], made["t10k"])


def test_digests_of_content_do_not_depend_on_how_it_was_compressed(tmp_path):
    content, path = b"pixels" * 1000, tmp_path / "a-ubyte.gz"
    files = (SourceFile("a-ubyte.gz", "content-sha256:" + hashlib.sha256(content).hexdigest()),)
    for level in (1, 9):
        path.write_bytes(gzip.compress(content, level))
        kind, _, expected = published_digest(files, path).partition(":")
        assert digest_of(path, kind) == expected
    path.with_suffix("").write_bytes(content)  # unpacked by hand
    kind, _, expected = published_digest(files, path.with_suffix("")).partition(":")
    assert digest_of(path.with_suffix(""), kind) == expected
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        digest_of(path, "content-sha256")


def test_static_mnist(tmp_path):
    made = formats.write_amat(tmp_path)
    images, labels, _ = pack("mnist-static", tmp_path, tmp_path)
    for split, part in (("train", "train"), ("val", "valid"), ("test", "test")):
        np.testing.assert_array_equal(images[split], made[part])
    assert set(np.unique(images["train"])) == {0, 255}
    assert labels["test"].tolist() == [-1] * 5


def test_static_mnist_with_other_digits_is_refused(tmp_path):
    formats.write_amat(tmp_path)
    path = tmp_path / "binarized_mnist_test.amat"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(UserError, match="line 1 is not 784 zeros and ones"):
        pack("mnist-static", tmp_path, tmp_path)


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar10(tmp_path, unpacked):
    path, made = formats.write_cifar(tmp_path)
    if unpacked:
        import tarfile

        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "x", filter="data")
        path = tmp_path / "x"
    images, labels, _ = pack("cifar10", path, tmp_path, rule="full")
    np.testing.assert_array_equal(images["train"], made["train"])
    np.testing.assert_array_equal(images["test"], made["test"])
    assert labels["train"][:5].tolist() == [1, 2, 3, 4, 2]


def png_members(folder, images):
    return {f"{folder}/{i + 1}.png": formats.image_file(image) for i, image in enumerate(images)}


@pytest.mark.parametrize("form", ["tar", "folder", "npy", "tfrecord", "npz"])
def test_small_imagenet(tmp_path, form):
    train, valid = formats.pixels(12, 32, 32, seed=1), formats.pixels(3, 32, 32, seed=2)
    source = tmp_path / "source"
    source.mkdir()
    for name, images in (("train", train), ("valid", valid)):
        members = png_members(f"{name}_32x32", images)
        if form == "tar":
            formats.write_tar(source / f"{name}_32x32.tar", dict(reversed(members.items())))
        elif form == "folder":
            for member, content in members.items():
                (source / member).parent.mkdir(exist_ok=True)
                (source / member).write_bytes(content)
        elif form == "npy":
            np.save(source / f"imagenet32-{name}.npy", images)
        elif form == "tfrecord":
            (source / name).mkdir()
            messages = [formats.example(image, 0) for image in images]
            (source / name / f"imagenet-r05-s-000-of-001-{name}.tfrecords").write_bytes(formats.tfrecord(messages))
        else:
            np.savez(source / f"{name}.npz", data=images)
    source = source / "train.npz" if form == "npz" else source
    images, _, info = pack("imagenet32-small", source, tmp_path, rule="full")
    np.testing.assert_array_equal(images["train"], train)  # in natural order: 2.png before 10.png
    if form != "npz":
        np.testing.assert_array_equal(images["test"], valid)
    assert info.variant == "old-small"


@pytest.mark.parametrize("form", ["zip", "npz", "pickle"])
def test_box_imagenet(tmp_path, form):
    batches = [formats.pixels(3, 32, 32, seed=n) for n in range(11)]
    valid = formats.pixels(2, 32, 32, seed=99)
    source = tmp_path / "source"
    source.mkdir()
    members = {f"train_data_batch_{n + 1}": images for n, images in enumerate(batches)} | {"val_data": valid}
    contents = {}
    for name, images in members.items():
        batch = {"data": formats.channel_first(images), "labels": list(range(1, len(images) + 1)), "mean": np.zeros(9)}
        if form == "pickle":
            contents[name] = pickle.dumps(batch, protocol=2)
        else:
            contents[name + ".npz"] = formats.npz(**batch)
    if form == "zip":
        formats.write_zip(
            source / "Imagenet32_train_npz.zip", {k: v for k, v in contents.items() if k.startswith("train")}
        )
        formats.write_zip(source / "Imagenet32_val_npz.zip", {k: v for k, v in contents.items() if k.startswith("val")})
    else:
        for name, content in contents.items():
            (source / name).write_bytes(content)
    images, labels, info = pack("imagenet32-box", source, tmp_path, rule="full")
    np.testing.assert_array_equal(images["train"], np.concatenate(batches))
    np.testing.assert_array_equal(images["test"], valid)
    assert labels["train"][:4].tolist() == [0, 1, 2, 0]  # the files count from 1
    assert info.variant == "new-box"


def test_imagenet256_tar_of_tars_and_class_order(tmp_path):
    classes = {"n02": formats.pixels(2, 300, 280, seed=1), "n01": formats.pixels(1, 260, 400, seed=2)}
    inner = {}
    for name, images in classes.items():
        members = {f"{name}_{i}.JPEG": formats.image_file(image, "JPEG") for i, image in enumerate(images)}
        inner[f"{name}.tar"] = formats.write_tar(tmp_path / f"{name}.tar", members).read_bytes()
        (tmp_path / f"{name}.tar").unlink()
    source = tmp_path / "source"
    source.mkdir()
    formats.write_tar(source / "ILSVRC2012_img_train.tar", inner)
    valid = {"ILSVRC2012_val_00000001.JPEG": formats.image_file(formats.pixels(1, 256, 256)[0], "JPEG")}
    formats.write_tar(source / "ILSVRC2012_img_val.tar", valid)
    images, labels, info = pack("imagenet256", source, tmp_path)
    assert images["train"].shape == (3, 256, 256, 3)
    assert labels["train"].tolist() == [0, 1, 1]
    assert labels["test"].tolist() == [-1]
    assert info.encoding == "png"


def test_celeba_crop_and_partition(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    pictures = formats.pixels(4, 218, 178)
    names = [f"{i:06d}.jpg" for i in range(1, 5)]
    files = [formats.image_file(p, "JPEG", quality=95, subsampling=0) for p in pictures]
    formats.write_zip(
        source / "img_align_celeba.zip", {f"img_align_celeba/{n}": f for n, f in zip(names, files, strict=True)}
    )
    (source / "list_eval_partition.txt").write_text("".join(f"{n} {k}\n" for n, k in zip(names, "0120", strict=True)))
    images, _, _ = pack("celeba64", source, tmp_path)
    assert [len(images[split]) for split in ("train", "val", "test")] == [2, 1, 1]
    from PIL import Image

    expected = Image.fromarray(pictures[3]).crop((15, 40, 163, 188)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(images["train"][1].astype(int) - np.asarray(expected).astype(int)).max() < 16  # JPEG


@pytest.mark.parametrize("form", ["flat", "thousands", "zip", "npy"])
def test_ffhq256_is_resized_from_larger_pictures_or_taken_from_the_array(tmp_path, form):
    source = tmp_path / "source"
    source.mkdir()
    if form == "npy":
        array = formats.pixels(20, 256, 256)
        np.save(source / "ffhq-256.npy", array)
    else:
        pictures = enumerate(formats.pixels(3, 512, 512))
        members = {f"{i:05d}.png": formats.image_file(image, compress_level=1) for i, image in pictures}
        if form == "zip":
            formats.write_zip(source / "images1024x1024.zip", {f"images1024x1024/{k}": v for k, v in members.items()})
        else:
            folder = source / "00000" if form == "thousands" else source
            folder.mkdir(exist_ok=True)
            for name, content in members.items():
                (folder / name).write_bytes(content)
    images, _, info = pack("ffhq256", source, tmp_path)
    assert info.variant == ("ffhq256-vdvae" if form == "npy" else "ffhq256-vdvae-from-pictures")
    if form == "npy":
        order = np.random.RandomState(5).permutation(20)[-2:]
        np.testing.assert_array_equal(images["test"], array[np.sort(order)])
    else:
        assert images["train"].shape == (2, 256, 256, 3)


def test_ffhq1024_keeps_the_png_files(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    made = formats.pixels(2, 1024, 1024)
    files = [formats.image_file(image, compress_level=1) for image in made]
    for i, content in enumerate(files):
        (source / f"{i:05d}.png").write_bytes(content)
    images, _, info = pack("ffhq1024", source, tmp_path)
    np.testing.assert_array_equal(np.concatenate([images["train"], images["test"]]), made)
    assert info.encoding == "png"
    import h5py

    with h5py.File(tmp_path / "out-ffhq1024.h5", locking=False) as file:
        assert file["train/bytes"][:].tobytes() == files[0]


@pytest.mark.parametrize("packed", [False, True])
def test_celebahq_records_of_glow_keep_their_parts(tmp_path, packed):
    source = tmp_path / "celeba-tfr"
    made, members = {}, {}
    for number, part in enumerate(("train", "validation")):
        made[part] = formats.pixels(1, 256, 256, seed=number)
        (source / part).mkdir(parents=True)
        records = formats.tfrecord([formats.example(image, 1) for image in made[part]])
        (source / part / f"{part}-r08-s-0000-of-0120.tfrecords").write_bytes(records)
        members[f"celeba-tfr/{part}/{part}-r08-s-0000-of-0120.tfrecords"] = records
    if packed:
        source = formats.write_tar(tmp_path / "celeba-tfr.tar", members)
    images, _, info = pack("celebahq256", source, tmp_path)
    np.testing.assert_array_equal(images["train"], made["train"])
    np.testing.assert_array_equal(images["test"], made["validation"])
    assert info.variant == "celebahq256-glow"
    if not packed:
        (alone,) = (source / "validation").iterdir()
        images, _, _ = pack("celebahq256", alone, tmp_path)
        np.testing.assert_array_equal(images["test"], made["validation"])


def test_split_rule_that_does_not_fit_the_source_is_named(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "1.png").write_bytes(formats.image_file(formats.pixels(1, 256, 256)[0]))
    with pytest.raises(UserError, match="choose another --split: glow, seeded"):
        pack("celebahq256", source, tmp_path, rule="glow")


def test_crc_of_the_published_check_string():
    assert formats.crc32c(b"123456789") == 0xE3069283
    assert masked_crc(b"123456789") == int.from_bytes(formats._masked(b"123456789"), "little")


def test_damaged_record_is_found(tmp_path):
    source = tmp_path / "validation"
    source.mkdir()
    content = bytearray(formats.tfrecord([formats.example(formats.pixels(1, 256, 256)[0], 0)] * 2))
    content[3] ^= 1  # in the first length
    (source / "a.tfrecords").write_bytes(content)
    with pytest.raises(UserError, match="record 0 is damaged"):
        pack("celebahq256", tmp_path, tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_lsun_lmdb(tmp_path, zipped):
    lmdb = pytest.importorskip("lmdb")
    source = tmp_path / "source"
    source.mkdir()
    for part, count in (("train", 3), ("val", 2)):
        folder = source / f"church_outdoor_{part}_lmdb"
        with lmdb.open(str(folder), map_size=10 << 20) as environment, environment.begin(write=True) as transaction:
            for i, image in enumerate(formats.pixels(count, 280, 300)):
                transaction.put(f"{i:040x}".encode(), formats.image_file(image, "WEBP"))
        if zipped:
            members = {f"{folder.name}/{file.name}": file.read_bytes() for file in folder.iterdir()}
            formats.write_zip(source / f"{folder.name}.zip", members)
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    images, _, _ = pack("lsun-church", source, tmp_path)
    assert images["train"].shape == (3, 256, 256, 3)
    assert len(images["test"]) == 2


def test_folder_with_splits_classes_and_a_resize(tmp_path):
    source = tmp_path / "source"
    for split, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            (source / split / label).mkdir(parents=True)
            for i, image in enumerate(formats.pixels(count, 40, 50)):
                (source / split / label / f"{i}.png").write_bytes(formats.image_file(image))
    images, labels, info = pack("folder", source, tmp_path, resolution=16, filter="box")
    assert images["train"].shape == (6, 16, 16, 3)
    assert labels["test"].tolist() == [0, 0, 1, 1]
    assert info.attributes["filter"].startswith("box")


def test_folder_with_a_split_file(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for i, image in enumerate(formats.pixels(3, 8, 8)):
        (source / f"a {i}.png").write_bytes(formats.image_file(image))
    listing = tmp_path / "splits.txt"
    listing.write_text("a 2.png test\na 0.png train\n")
    images, _, _ = pack("folder", source, tmp_path, split_file=listing)
    np.testing.assert_array_equal(images["test"][0], formats.pixels(3, 8, 8)[2])
    listing.write_text("a 7.png test\n")
    with pytest.raises(UserError, match="line 1"):
        pack("folder", source, tmp_path, split_file=listing)


def test_folder_of_unequal_images_asks_for_a_resolution(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for i, side in enumerate((8, 9)):
        (source / f"{i}.png").write_bytes(formats.image_file(formats.pixels(1, side, side)[0]))
    with pytest.raises(UserError, match="--resolution"):
        pack("folder", source, tmp_path)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "flat"])
def test_arrays_in_every_layout(tmp_path, layout):
    images = formats.pixels(10, 8, 8, 1 if layout == "NHW" else 3)
    array = {
        "NHWC": images,
        "NCHW": images.transpose(0, 3, 1, 2),
        "NHW": images[..., 0],
        "flat": formats.channel_first(images),
    }[layout]
    np.save(tmp_path / "x.npy", np.ascontiguousarray(array))
    packed, _, _ = pack("folder", tmp_path / "x.npy", tmp_path, rule="test")
    np.testing.assert_array_equal(packed["test"], images)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((2, 8, 8, 3), np.float32), "expected uint8"), (np.zeros((2, 8, 8, 5), np.uint8), "reshape it")],
)
def test_arrays_of_other_kinds_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UserError, match=message):
        pack("folder", tmp_path / "x.npy", tmp_path)


def test_prepared_files_can_be_sources(tmp_path):
    path, made = formats.write_cifar(tmp_path)
    pack("cifar10", path, tmp_path, rule="full")
    images, labels, info = pack("folder", tmp_path / "out-cifar10.h5", tmp_path)
    np.testing.assert_array_equal(images["test"], made["test"])
    assert labels["test"].tolist() == [6, 7, 8, 9]
    assert describe(tmp_path / "out-cifar10.h5").splits["test"].sha256 == info.splits["test"].sha256
