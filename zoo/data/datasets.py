"""Every data set of the papers: shape, parts, digests, split rules, licence, and where it can be had.

The first split rule of a data set is the default of `zoo data prepare`. `variant` keeps apart what shares a title:
"ImageNet 32x32" is two incompatible sets (section 3.1 of the metrics notes in `docs/data.md`), so is binarised MNIST.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoo.data.splits import OFFICIAL, HoldOut, Keep, SplitRule


@dataclass(frozen=True)
class SourceFile:
    """One official file: name, digest ("sha256:..." or "md5:..."), size in bytes, address if the host is open."""

    name: str
    digest: str = ""
    size: int | None = None
    url: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set."""

    title: str
    reader: str  # module of zoo.data.readers
    shape: tuple[int, int, int] | None  # (H, W, C); None = as the source has it
    counts: Mapping[str, int]  # images of each part of the source; empty = not fixed
    rules: Mapping[str, SplitRule]
    licence: str
    where: str
    files: tuple[SourceFile, ...] = ()
    variant: str = ""  # "" = the data set's own name
    filter: str = "none"  # how pixels were or are resized
    classes: int = 0
    encoding: str = "raw"
    options: Mapping[str, object] = field(default_factory=dict)  # handed to the reader
    note: str = ""

    @property
    def downloadable(self) -> bool:
        """Whether `--download` works."""
        return bool(self.files) and all(file.url for file in self.files)


MNIST_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
AMAT_HOST = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
LSUN_HOST = "http://dl.yf.io/lsun/scenes/"
IMAGENET_TERMS = "ImageNet terms: non-commercial research"
FFHQ_LICENCE = "CC BY-NC-SA 4.0 (images: CC BY, CC BY-NC, public domain); not for face recognition"
BILINEAR = "bilinear (PIL, anti-aliased)"
FULL = SplitRule("the source's own parts; nothing held out for validation")
_TRAIN_HELD_OUT = "{} of the training part held out for validation: {}"


def _imagenet_rules(validation: str) -> dict[str, SplitRule]:
    """Rules for train + official validation, which is the test split of the literature."""
    permuted = HoldOut(5000, "val", "train", "last", seed=42)
    return {
        "vdvae": SplitRule(
            _TRAIN_HELD_OUT.format("5,000", "last of numpy RandomState(42).permutation over files sorted by name")
            + f"; test = {validation}. The official order came from an unsorted listing and cannot be rebuilt",
            {"train": permuted, "val": Keep("test")},
        ),
        "full": SplitRule(f"train = all; test = {validation}", {"val": Keep("test")}),
    }


def _imagenet_small(side: int, train: SourceFile, valid: SourceFile) -> DatasetSpec:
    return DatasetSpec(
        title=f"ImageNet {side}x{side}, small (van den Oord et al. 2016)",
        reader="imagenet",
        shape=(side, side, 3),
        counts={"train": 1_281_149, "val": 49_999},
        rules=_imagenet_rules("the 49,999 validation images"),
        licence=IMAGENET_TERMS,
        where="official host is gone; the tar files are passed on as torrents",
        files=(train, valid),
        variant=f"imagenet{side}-small",
        filter="as published (aliased; filter not stated)",
        options={"flavour": "small"},
        note="harder than the box variant by about 0.26 bits/dim at 32x32; never compare the two",
    )


def _imagenet_box(side: int, files: tuple[SourceFile, ...]) -> DatasetSpec:
    return DatasetSpec(
        title=f"ImageNet {side}x{side}, box (Chrabaszcz et al. 2017)",
        reader="imagenet",
        shape=(side, side, 3),
        counts={"train": 1_281_167, "val": 50_000},
        rules=_imagenet_rules("the 50,000 validation images"),
        licence=IMAGENET_TERMS,
        where="image-net.org/data/downsample (account needed)",
        files=files,
        variant=f"imagenet{side}-box",
        filter="box (as published)",
        classes=1000,
        options={"flavour": "box"},
        note="easier than the small variant; never compare the two",
    )


def _ffhq(side: int, files: tuple[SourceFile, ...], rules: dict[str, SplitRule], encoding: str) -> DatasetSpec:
    return DatasetSpec(
        title=f"FFHQ {side}x{side}",
        reader="faces",
        shape=(side, side, 3),
        counts={"all": 70_000},
        rules=rules,
        licence=FFHQ_LICENCE,
        where="Google Drive folder of NVlabs/ffhq-dataset; VDVAE's array for 256",
        files=files,
        filter="none" if side == 1024 else BILINEAR,
        encoding=encoding,
    )


def _celeba_hq(side: int, encoding: str) -> DatasetSpec:
    glow = SplitRule("parts of Glow's records (27,000 / 3,000)", {"val": Keep("test")})
    ours = SplitRule(
        "test = last 3,000 of numpy RandomState(0).permutation; the papers' hold-outs were unseeded",
        {"all": HoldOut(3000, "test", "train", "last", seed=0), "val": Keep("test")},
    )
    return DatasetSpec(
        title=f"CelebA-HQ {side}x{side}",
        reader="faces",
        shape=(side, side, 3),
        counts={},
        rules={"glow": glow, "seeded": ours} if side == 256 else {"seeded": ours},
        licence="CC BY-NC 4.0",
        where="Glow's celeba-tfr.tar for 256; recreated data1024x1024 archives for 1024",
        filter=f"as published (Glow), else {BILINEAR}" if side == 256 else "none",
        encoding=encoding,
    )


def _lsun(category: str, train: SourceFile, val: SourceFile, count: int) -> DatasetSpec:
    return DatasetSpec(
        title=f"LSUN {category} 256x256",
        reader="lsun",
        shape=(256, 256, 3),
        counts={"train": count, "val": 300},
        rules={"official": SplitRule("the source's own parts; test = the 300 of val", {"val": Keep("test")})},
        licence="none stated",
        where=LSUN_HOST,
        files=(train, val),
        filter="centre crop to the short side, bicubic (PIL)",
        encoding="png",
        options={"category": category},
    )


DATASETS: dict[str, DatasetSpec] = {
    "mnist": DatasetSpec(
        title="MNIST 28x28",
        reader="mnist",
        shape=(28, 28, 1),
        counts={"train": 60_000, "test": 10_000},
        rules={
            "last10k": SplitRule(
                _TRAIN_HELD_OUT.format("10,000", "the last ones"), {"train": HoldOut(10_000, "val", "train")}
            ),
            "efficient-vdvae": SplitRule(
                "test part in the order of numpy RandomState(101).permutation: first half = val, second half = test",
                {"test": HoldOut(0.5, "val", "test", "first", seed=101)},
            ),
            "full": FULL,
        },
        licence="CC BY-SA 3.0",
        where=MNIST_HOST,
        files=(
            SourceFile(
                "train-images-idx3-ubyte.gz",
                "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
                url=MNIST_HOST + "train-images-idx3-ubyte.gz",
            ),
            SourceFile(
                "train-labels-idx1-ubyte.gz",
                "md5:d53e105ee54ea40749a09fcbcd1e9432",
                url=MNIST_HOST + "train-labels-idx1-ubyte.gz",
            ),
            SourceFile(
                "t10k-images-idx3-ubyte.gz",
                "md5:9fb629c4189551a2d022fa330f9573f3",
                url=MNIST_HOST + "t10k-images-idx3-ubyte.gz",
            ),
            SourceFile(
                "t10k-labels-idx1-ubyte.gz",
                "md5:ec29112dd5afa0611ce80d1b7f02629c",
                url=MNIST_HOST + "t10k-labels-idx1-ubyte.gz",
            ),
        ),
        classes=10,
        note="grey levels; `binarize=true` draws binary pixels: anew at each use in training, once in evaluation",
    ),
    "mnist-static": DatasetSpec(
        title="MNIST 28x28, statically binarised (Larochelle)",
        reader="mnist",
        shape=(28, 28, 1),
        counts={"train": 50_000, "val": 10_000, "test": 10_000},
        rules={"official": OFFICIAL},
        licence="as MNIST",
        where=AMAT_HOST,
        files=(
            SourceFile(
                "binarized_mnist_train.amat",
                "sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
                78_400_000,
                AMAT_HOST + "binarized_mnist_train.amat",
            ),
            SourceFile(
                "binarized_mnist_valid.amat",
                "sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
                15_680_000,
                AMAT_HOST + "binarized_mnist_valid.amat",
            ),
            SourceFile(
                "binarized_mnist_test.amat",
                "sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
                15_680_000,
                AMAT_HOST + "binarized_mnist_test.amat",
            ),
        ),
        note="pixels are 0 and 255; price them at bits=1",
    ),
    "cifar10": DatasetSpec(
        title="CIFAR-10 32x32",
        reader="cifar",
        shape=(32, 32, 3),
        counts={"train": 50_000, "test": 10_000},
        rules={
            "vdvae": SplitRule(
                _TRAIN_HELD_OUT.format("5,000", "first of numpy RandomState(11172018).permutation(50000)"),
                {"train": HoldOut(5000, "val", "train", "first", seed=11172018)},
            ),
            "efficient-vdvae": SplitRule(
                "test part in the order of numpy RandomState(101).permutation: first half = val, second half = test",
                {"test": HoldOut(0.5, "val", "test", "first", seed=101)},
            ),
            "full": FULL,
        },
        licence="none stated",
        where="https://www.cs.toronto.edu/~kriz/cifar.html",
        files=(
            SourceFile(
                "cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
                170_498_071,
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            ),
        ),
        classes=10,
    ),
    "imagenet32-small": _imagenet_small(
        32,
        SourceFile(
            "train_32x32.tar", "sha256:244a323d48f8d72f65ad8b54658c01fed68d2d7bdc77ccb43da58c11e94224e5", 4_113_018_880
        ),
        SourceFile(
            "valid_32x32.tar", "sha256:862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7", 161_474_560
        ),
    ),
    "imagenet64-small": _imagenet_small(
        64,
        SourceFile(
            "train_64x64.tar", "sha256:e2a2c1947a748d0d256e98e6d82800d855441dc9e4de2e71a773f1324c4524d7", 12_112_588_800
        ),
        SourceFile(
            "valid_64x64.tar", "sha256:eeac03ec4f585baf871d2b4cb9c974bfe345e74878a74e5820fe6eb1041629cd", 477_255_680
        ),
    ),
    "imagenet32-box": _imagenet_box(
        32,
        (
            SourceFile(
                "Imagenet32_train_npz.zip",
                "sha256:94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc",
                3_580_435_279,
            ),
            SourceFile(
                "Imagenet32_val_npz.zip",
                "sha256:013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a",
                139_697_668,
            ),
        ),
    ),
    "imagenet64-box": _imagenet_box(
        64,
        (
            SourceFile(
                "Imagenet64_train_part1_npz.zip",
                "sha256:9422dc1dc5d092e9814a70a1cb7fc74880d2db5d88a0cb8a34ee363b12bde3f1",
                6_783_426_789,
            ),
            SourceFile(
                "Imagenet64_train_part2_npz.zip",
                "sha256:9fafc115afb7e6c301e66dc16b2d737152b427bd5dab26e1293487a6819c7f30",
                6_780_506_068,
            ),
            SourceFile(
                "Imagenet64_val_npz.zip",
                "sha256:e1e75133158a1924135a9c6f97a80d2d237b158945e0b34074e58e6c8430eeb8",
                529_522_927,
            ),
        ),
    ),
    "imagenet256": DatasetSpec(
        title="ImageNet 256x256",
        reader="imagenet256",
        shape=(256, 256, 3),
        counts={"train": 1_281_167, "val": 50_000},
        rules={"official": SplitRule("train = all; test = the 50,000 validation images", {"val": Keep("test")})},
        licence=IMAGENET_TERMS,
        where="image-net.org (account needed)",
        files=(
            SourceFile("ILSVRC2012_img_train.tar", "md5:1d675b47d978889d74fa0da5fadfb00e"),
            SourceFile("ILSVRC2012_img_val.tar", "md5:29b22e2961454d5413ddabcf34fc5622"),
        ),
        filter="short side to 256 (bicubic, PIL), centre crop",
        classes=1000,
        encoding="png",
    ),
    "celeba64": DatasetSpec(
        title="CelebA 64x64",
        reader="celeba",
        shape=(64, 64, 3),
        counts={"train": 162_770, "val": 19_867, "test": 19_962},
        rules={"official": SplitRule("official partition file")},
        licence="non-commercial research",
        where="Google Drive id 0B7EVK8r0v71pZjFTYXZWM3FlRnM (img_align_celeba.zip), 0B7EVK8r0v71pY0NSMzRuSXJEVkk",
        files=(
            SourceFile("img_align_celeba.zip", "md5:00d2c5bc6d35e252742224ab0c1e8fcb"),
            SourceFile("list_eval_partition.txt", "md5:d32c9cbf5e040fd4025c592c306e6668"),
        ),
        filter=f"crop box (15, 40, 163, 188) of 178x218, then {BILINEAR}",
    ),
    "celebahq256": _celeba_hq(256, "raw"),
    "celebahq1024": _celeba_hq(1024, "png"),
    "ffhq256": _ffhq(
        256,
        (
            SourceFile(
                "ffhq-256.npy",
                url="https://openaipublic.blob.core.windows.net/very-deep-vaes-assets/vdvae-assets/ffhq-256.npy",
            ),
        ),
        {
            "vdvae": SplitRule(
                "test = last 7,000 of numpy RandomState(5).permutation(70000), which VDVAE also validates on",
                {"all": HoldOut(7000, "test", "train", "last", seed=5)},
            ),
            "ffhq": SplitRule("the dataset's own: last 10,000 = test", {"all": HoldOut(10_000, "test", "train")}),
        },
        "raw",
    ),
    "ffhq1024": _ffhq(
        1024,
        (
            SourceFile(
                "images1024x1024.zip", url="https://archive.org/download/ffhq-dataset/images1024x1024.zip"
            ),
        ),
        {
            "vdvae": SplitRule(
                "train = 00000-64999, test = 65000-69999", {"all": HoldOut(5000, "test", "train")}
            ),
            "ffhq": SplitRule("the dataset's own: last 10,000 = test", {"all": HoldOut(10_000, "test", "train")}),
        },
        "png",
    ),
    "lsun-church": _lsun(
        "church_outdoor",
        SourceFile(
            "church_outdoor_train_lmdb.zip",
            "sha256:91128ae026840ac0c5982b4445ab5fc4e092d6847cca76793b2b1a0815c2e74a",
            2_448_463_466,
            LSUN_HOST + "church_outdoor_train_lmdb.zip",
        ),
        SourceFile(
            "church_outdoor_val_lmdb.zip",
            "sha256:34635b7547a3e51a15f942a4a4082dd6bc9cca381a953515cb2275c0eed50584",
            url=LSUN_HOST + "church_outdoor_val_lmdb.zip",
        ),
        126_227,
    ),
    "lsun-bedroom": _lsun(
        "bedroom",
        SourceFile(
            "bedroom_train_lmdb.zip",
            "sha256:a15644c2e7153106867f0adb3491fc41224102d1f01b24494fb47d9f5d1f174e",
            45_922_737_680,
            LSUN_HOST + "bedroom_train_lmdb.zip",
        ),
        SourceFile(
            "bedroom_val_lmdb.zip",
            "sha256:5d022e781b241c25ec2e1f1f769afcdb8091d7fd58362667aec03137b8114b12",
            url=LSUN_HOST + "bedroom_val_lmdb.zip",
        ),
        3_033_042,
    ),
    "folder": DatasetSpec(
        title="any folder of images",
        reader="folder",
        shape=None,
        counts={},
        rules={
            "tenth": SplitRule(
                "subfolders train/val/test where present; else last tenth of numpy RandomState(0).permutation = test",
                {"all": HoldOut(0.1, "test", "train", "last", seed=0)},
            ),
            "test": SplitRule("every image = test", {"all": Keep("test")}),
        },
        licence="yours",
        where="your disk",
        filter=BILINEAR,
    ),
}  # fmt: skip
