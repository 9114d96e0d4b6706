"""Every data set of the papers: shape, parts, digests, split rules, licence, and where it can be had.

The first split rule of a data set is the default of `zoo data prepare`. `variant` keeps apart what shares a title
("ImageNet 32x32" is two incompatible sets, see `docs/data.md`); its words are those of the published references.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo import plugins
from zoo.data.sources import HOSTS, SourceFile, source_files
from zoo.data.splits import DROP, OFFICIAL, Divide, HoldOut, Keep, SplitRule

Reader = Callable[..., Any]  # (path, ReadOptions) -> Source, see zoo.data.readers


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set."""

    title: str
    reader: str | Reader  # module of zoo.data.readers, or a function like their `open_source`
    shape: tuple[int, int, int] | None  # (H, W, C); None = as the source has it
    counts: Mapping[str, int]  # images of each part of the source; empty = not fixed
    rules: Mapping[str, SplitRule]
    licence: str
    where: str
    files: tuple[SourceFile, ...] = ()
    unpacked_files: tuple[SourceFile, ...] = ()  # what the archives hold, where digests of that are published
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


IMAGENET_TERMS = "ImageNet terms: non-commercial research"
FFHQ_LICENCE = "CC BY-NC-SA 4.0 (images: CC BY, CC BY-NC, public domain); not for face recognition"
BILINEAR = "bilinear (PIL, anti-aliased)"
FULL = SplitRule("the source's own parts; nothing held out for validation")
HELD_OUT = "{} of the training part held out for validation: {}"


def _half_test(variant: str) -> SplitRule:
    """Efficient-VDVAE's splits of MNIST and CIFAR-10."""
    return SplitRule(
        "test part in the order of numpy RandomState(101).permutation: first half = val, second half = test",
        {"test": HoldOut(0.5, "val", "test", "first", seed=101)},
        variant,
    )


def _last_as_test(count: int, text: str, variant: str) -> SplitRule:
    return SplitRule(text, {"all": HoldOut(count, "test", "train")}, variant)


def _imagenet_rules(validation: str) -> dict[str, SplitRule]:
    """Rules for train + official validation, which is the test split of the literature."""
    permuted = HoldOut(5000, "val", "train", "last", seed=42)
    return {
        "vdvae": SplitRule(
            HELD_OUT.format("5,000", "last of numpy RandomState(42).permutation over files sorted by name")
            + f"; test = {validation}. The official order came from an unsorted listing and cannot be rebuilt",
            {"train": permuted, "val": Keep("test")},
        ),
        "full": SplitRule(f"train = all; test = {validation}", {"val": Keep("test")}),
    }


def _imagenet_small(side: int) -> DatasetSpec:
    return DatasetSpec(
        title=f"ImageNet {side}x{side}, small (van den Oord et al. 2016)",
        reader="imagenet",
        shape=(side, side, 3),
        counts={"train": 1_281_149, "val": 49_999},
        rules=_imagenet_rules("the 49,999 validation images"),
        licence=IMAGENET_TERMS,
        where="official host is gone; the tar files are passed on as torrents",
        files=source_files(f"imagenet{side}-small"),
        variant="old-small",
        filter="as published (aliased; filter not stated)",
        options={"flavour": "small"},
        note="harder than the box variant by about 0.26 bits/dim at 32x32; never compare the two",
    )


def _imagenet_box(side: int) -> DatasetSpec:
    return DatasetSpec(
        title=f"ImageNet {side}x{side}, box (Chrabaszcz et al. 2017)",
        reader="imagenet",
        shape=(side, side, 3),
        counts={"train": 1_281_167, "val": 50_000},
        rules=_imagenet_rules("the 50,000 validation images"),
        licence=IMAGENET_TERMS,
        where="image-net.org/data/downsample (account needed)",
        files=source_files(f"imagenet{side}-box"),
        variant="new-box",
        filter="box (as published)",
        classes=1000,
        options={"flavour": "box"},
        note="easier than the small variant; never compare the two",
    )


def _ffhq(side: int, vdvae: SplitRule, encoding: str) -> DatasetSpec:
    own = _last_as_test(10_000, "the dataset's own: last 10,000 = test", f"ffhq{side}-last10k")
    return DatasetSpec(
        title=f"FFHQ {side}x{side}",
        reader="faces",
        shape=(side, side, 3),
        counts={"all": 70_000},
        rules={"vdvae": vdvae, "ffhq": own},
        licence=FFHQ_LICENCE,
        where="Google Drive folder of NVlabs/ffhq-dataset" + ("; VDVAE's array" if side == 256 else "; archive.org"),
        files=source_files(f"ffhq{side}"),
        filter="none" if side == 1024 else BILINEAR,
        encoding=encoding,
    )


def _celeba_hq(side: int, encoding: str) -> DatasetSpec:
    glow = SplitRule("parts of Glow's records (27,000 / 3,000)", {"val": Keep("test")}, "celebahq256-glow")
    ours = SplitRule(
        "test = last 3,000 of numpy RandomState(0).permutation; the papers' hold-outs were unseeded",
        {"all": HoldOut(3000, "test", "train", "last", seed=0), "val": Keep("test")},
        f"celebahq{side}-seeded",
    )
    return DatasetSpec(
        title=f"CelebA-HQ {side}x{side}",
        reader="faces",
        shape=(side, side, 3),
        counts={"all": 30_000},
        rules={"glow": glow, "seeded": ours} if side == 256 else {"seeded": ours},
        licence="CC BY-NC 4.0",
        where="Glow's celeba-tfr.tar for 256; recreated data1024x1024 archives for 1024",
        filter=f"{BILINEAR}; Glow's records as published" if side == 256 else "none",
        encoding=encoding,
    )


def _lsun(category: str, short: str, count: int) -> DatasetSpec:
    return DatasetSpec(
        title=f"LSUN {category} 256x256",
        reader="lsun",
        shape=(256, 256, 3),
        counts={"train": count, "val": 300},
        rules={"official": SplitRule("the source's own parts; test = the 300 of val", {"val": Keep("test")})},
        licence="none stated",
        where=HOSTS["LSUN"],
        files=source_files(short),
        filter="bicubic (PIL) of the short side, centre crop",
        encoding="png",
        options={"category": category},
    )


def _mnist_like(name: str, title: str, host: str, licence: str, **different: Any) -> DatasetSpec:
    """A set in MNIST's form: four idx files of 28x28 grey bytes."""
    facts: dict[str, Any] = {"counts": {"train": 60_000, "test": 10_000}, "classes": 10, **different}
    last = HELD_OUT.format("5,000", "the last ones")
    return DatasetSpec(
        title=f"{title} 28x28",
        reader="mnist",
        shape=(28, 28, 1),
        rules={"last5k": SplitRule(last, {"train": HoldOut(5000, "val", "train")}), "full": FULL},
        licence=licence,
        where=HOSTS[host],
        files=source_files(name),
        **facts,
    )


DATASETS: dict[str, DatasetSpec] = {
    "mnist": DatasetSpec(
        title="MNIST 28x28",
        reader="mnist",
        shape=(28, 28, 1),
        counts={"train": 60_000, "test": 10_000},
        rules={
            "last10k": SplitRule(
                HELD_OUT.format("10,000", "the last ones"), {"train": HoldOut(10_000, "val", "train")}
            ),
            "efficient-vdvae": _half_test("mnist-half-test"),
            "full": FULL,
            "test-only": SplitRule(
                "only the 10,000 test digits: numpy RandomState(0).permutation, first 1,000 = val, next 1,000 = test, "
                "other 8,000 = train",
                {"train": Keep(DROP), "test": Divide(1000, 1000, seed=0)},
                variant="mnist-test-only",
            ),
        },
        licence="CC BY-SA 3.0",
        where=HOSTS["MNIST"],
        files=source_files("mnist"),
        classes=10,
        note="grey levels; `binarize: true` draws binary pixels, anew at each use in training, once in evaluation",
    ),
    "fashion-mnist": _mnist_like("fashion-mnist", "Fashion-MNIST (Xiao et al. 2017)", "FASHION", "MIT"),
    "kmnist": _mnist_like("kmnist", "Kuzushiji-MNIST (Clanuwat et al. 2018)", "KMNIST", "CC BY-SA 4.0"),
    "emnist": _mnist_like(
        "emnist",
        "EMNIST balanced (Cohen et al. 2017)",
        "EMNIST",
        "none stated",
        counts={"train": 112_800, "test": 18_800},
        classes=47,
        options={"prefix": "emnist-balanced-", "archive": "gzip.zip"},
        note="the split `balanced`; characters lie on their side, as published",
    ),
    "mnist-static": DatasetSpec(
        title="MNIST 28x28, statically binarised (Larochelle)",
        reader="mnist",
        shape=(28, 28, 1),
        counts={"train": 50_000, "val": 10_000, "test": 10_000},
        rules={"official": OFFICIAL},
        licence="as MNIST",
        where=HOSTS["AMAT"],
        files=source_files("mnist-static"),
        note="pixels are 0 and 255; price them at bits=1",
    ),
    "cifar10": DatasetSpec(
        title="CIFAR-10 32x32",
        reader="cifar",
        shape=(32, 32, 3),
        counts={"train": 50_000, "test": 10_000},
        rules={
            "vdvae": SplitRule(
                HELD_OUT.format("5,000", "first of numpy RandomState(11172018).permutation(50000)"),
                {"train": HoldOut(5000, "val", "train", "first", seed=11172018)},
            ),
            "efficient-vdvae": _half_test("cifar10-half-test"),
            "full": FULL,
        },
        licence="none stated",
        where=HOSTS["CIFAR"],
        files=source_files("cifar10"),
        unpacked_files=source_files("cifar10-batches"),
        classes=10,
    ),
    "imagenet32-small": _imagenet_small(32),
    "imagenet64-small": _imagenet_small(64),
    "imagenet32-box": _imagenet_box(32),
    "imagenet64-box": _imagenet_box(64),
    "imagenet256": DatasetSpec(
        title="ImageNet 256x256",
        reader="imagenet256",
        shape=(256, 256, 3),
        counts={"train": 1_281_167, "val": 50_000},
        rules={"official": SplitRule("train = all; test = the 50,000 validation images", {"val": Keep("test")})},
        licence=IMAGENET_TERMS,
        where="image-net.org (account needed)",
        files=source_files("imagenet256"),
        filter="bicubic (PIL) of the short side, centre crop",
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
        where="Google Drive ids 0B7EVK8r0v71pZjFTYXZWM3FlRnM (pictures), 0B7EVK8r0v71pY0NSMzRuSXJEVkk (partition)",
        files=source_files("celeba64"),
        filter=f"{BILINEAR} of the crop box (15, 40, 163, 188) of 178x218",
    ),
    "celebahq256": _celeba_hq(256, "raw"),
    "celebahq1024": _celeba_hq(1024, "png"),
    "ffhq256": _ffhq(
        256,
        SplitRule(
            "test = last 7,000 of numpy RandomState(5).permutation(70000), which VDVAE also validates on",
            {"all": HoldOut(7000, "test", "train", "last", seed=5)},
            "ffhq256-vdvae",
        ),
        "raw",
    ),
    "ffhq1024": _ffhq(1024, _last_as_test(5000, "train = 00000-64999, test = 65000-69999", "ffhq1024-vdvae"), "png"),
    "lsun-church": _lsun("church_outdoor", "lsun-church", 126_227),
    "lsun-bedroom": _lsun("bedroom", "lsun-bedroom", 3_033_042),
    "folder": DatasetSpec(
        title="any folder of images",
        reader="folder",
        shape=None,
        counts={},
        rules={
            "tenth": SplitRule(
                "parts train, val, test where present; else a tenth by numpy RandomState(0).permutation = test",
                {"all": HoldOut(0.1, "test", "train", "last", seed=0)},
            ),
            "test": SplitRule("every image = test", {part: Keep("test") for part in ("all", "train", "val", "test")}),
        },
        licence="yours",
        where="your disk",
    ),
}
# at the end, so that a package's module can import what stands above
DATASETS |= {name: spec for name, spec in plugins.installed(plugins.DATASETS).items() if name not in DATASETS}
