"""Official source files: published digests, sizes in bytes, and the hosts that still give them out."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from zoo.errors import UserError

HOSTS = {
    "MNIST": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "FASHION": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "KMNIST": "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "EMNIST": "https://biometrics.nist.gov/cs_links/EMNIST/",
    "AMAT": "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    "CIFAR": "https://www.cs.toronto.edu/~kriz/",
    "VDVAE": "https://openaipublic.blob.core.windows.net/very-deep-vaes-assets/vdvae-assets/",
    "ARCHIVE": "https://archive.org/download/ffhq-dataset/",
    "LSUN": "http://dl.yf.io/lsun/scenes/",
}

# data set | file | host ("-": none open) | bytes | digest
_TABLE = """
mnist           | train-images-idx3-ubyte.gz      | MNIST   |           - | md5:f68b3c2dcbeaaa9fbdd348bbdeb94873
mnist           | train-labels-idx1-ubyte.gz      | MNIST   |           - | md5:d53e105ee54ea40749a09fcbcd1e9432
mnist           | t10k-images-idx3-ubyte.gz       | MNIST   |           - | md5:9fb629c4189551a2d022fa330f9573f3
mnist           | t10k-labels-idx1-ubyte.gz       | MNIST   |           - | md5:ec29112dd5afa0611ce80d1b7f02629c
fashion-mnist   | train-images-idx3-ubyte.gz      | FASHION |           - | content-sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
fashion-mnist   | train-labels-idx1-ubyte.gz      | FASHION |           - | content-sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
fashion-mnist   | t10k-images-idx3-ubyte.gz       | FASHION |           - | content-sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
fashion-mnist   | t10k-labels-idx1-ubyte.gz       | FASHION |           - | content-sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
kmnist          | train-images-idx3-ubyte.gz      | KMNIST  |           - | md5:bdb82020997e1d708af4cf47b453dcf7
kmnist          | train-labels-idx1-ubyte.gz      | KMNIST  |           - | md5:e144d726b3acfaa3e44228e80efcd344
kmnist          | t10k-images-idx3-ubyte.gz       | KMNIST  |           - | md5:5c965bf0a639b31b8f53240b1b52f4d7
kmnist          | t10k-labels-idx1-ubyte.gz       | KMNIST  |           - | md5:7320c461ea6c1c855c0b718fb2a4b134
emnist          | gzip.zip                        | EMNIST  |           - | md5:58c8d27c78d21e728a6bc7b3cc06412e
mnist-static    | binarized_mnist_train.amat      | AMAT    |    78400000 | sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d
mnist-static    | binarized_mnist_valid.amat      | AMAT    |    15680000 | sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2
mnist-static    | binarized_mnist_test.amat       | AMAT    |    15680000 | sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c
cifar10         | cifar-10-python.tar.gz          | CIFAR   |   170498071 | md5:c58f30108f718f92721af3b95e74349a
cifar10-batches | data_batch_1                    | -       |           - | md5:c99cafc152244af753f735de768cd75f
cifar10-batches | data_batch_2                    | -       |           - | md5:d4bba439e000b95fd0a9bffe97cbabec
cifar10-batches | data_batch_3                    | -       |           - | md5:54ebc095f3ab1f0389bbae665268c751
cifar10-batches | data_batch_4                    | -       |           - | md5:634d18415352ddfa80567beed471001a
cifar10-batches | data_batch_5                    | -       |           - | md5:482c414d41f54cd18b22e5b47cb7c3cb
cifar10-batches | test_batch                      | -       |           - | md5:40351d587109b95175f43aff81a1287e
imagenet32-small | train_32x32.tar                 | -       |  4113018880 | sha256:244a323d48f8d72f65ad8b54658c01fed68d2d7bdc77ccb43da58c11e94224e5
imagenet32-small | valid_32x32.tar                 | -       |   161474560 | sha256:862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7
imagenet64-small | train_64x64.tar                 | -       | 12112588800 | sha256:e2a2c1947a748d0d256e98e6d82800d855441dc9e4de2e71a773f1324c4524d7
imagenet64-small | valid_64x64.tar                 | -       |   477255680 | sha256:eeac03ec4f585baf871d2b4cb9c974bfe345e74878a74e5820fe6eb1041629cd
imagenet32-box  | Imagenet32_train_npz.zip        | -       |  3580435279 | sha256:94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc
imagenet32-box  | Imagenet32_val_npz.zip          | -       |   139697668 | sha256:013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a
imagenet64-box  | Imagenet64_train_part1_npz.zip  | -       |  6783426789 | sha256:9422dc1dc5d092e9814a70a1cb7fc74880d2db5d88a0cb8a34ee363b12bde3f1
imagenet64-box  | Imagenet64_train_part2_npz.zip  | -       |  6780506068 | sha256:9fafc115afb7e6c301e66dc16b2d737152b427bd5dab26e1293487a6819c7f30
imagenet64-box  | Imagenet64_val_npz.zip          | -       |   529522927 | sha256:e1e75133158a1924135a9c6f97a80d2d237b158945e0b34074e58e6c8430eeb8
imagenet256     | ILSVRC2012_img_train.tar        | -       |           - | md5:1d675b47d978889d74fa0da5fadfb00e
imagenet256     | ILSVRC2012_img_val.tar          | -       |           - | md5:29b22e2961454d5413ddabcf34fc5622
celeba64        | img_align_celeba.zip            | -       |           - | md5:00d2c5bc6d35e252742224ab0c1e8fcb
celeba64        | list_eval_partition.txt         | -       |           - | md5:d32c9cbf5e040fd4025c592c306e6668
ffhq256         | ffhq-256.npy                    | VDVAE   |           - | -
ffhq1024        | images1024x1024.zip             | ARCHIVE |           - | -
lsun-church     | church_outdoor_train_lmdb.zip   | LSUN    |  2448463466 | sha256:91128ae026840ac0c5982b4445ab5fc4e092d6847cca76793b2b1a0815c2e74a
lsun-church     | church_outdoor_val_lmdb.zip     | LSUN    |           - | sha256:34635b7547a3e51a15f942a4a4082dd6bc9cca381a953515cb2275c0eed50584
lsun-bedroom    | bedroom_train_lmdb.zip          | LSUN    | 45922737680 | sha256:a15644c2e7153106867f0adb3491fc41224102d1f01b24494fb47d9f5d1f174e
lsun-bedroom    | bedroom_val_lmdb.zip            | LSUN    |           - | sha256:5d022e781b241c25ec2e1f1f769afcdb8091d7fd58362667aec03137b8114b12
"""  # noqa: E501


@dataclass(frozen=True)
class SourceFile:
    """One official file."""

    name: str
    digest: str = ""  # "sha256:..." or "md5:...", of the file; "content-sha256:..." of what its gzip unpacks to
    size: int | None = None
    url: str = ""  # empty where no host is open


def source_files(dataset: str) -> tuple[SourceFile, ...]:
    """The official files of a data set."""
    rows = ([cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines())
    return tuple(
        SourceFile(
            name,
            "" if digest == "-" else digest,
            None if size == "-" else int(size),
            HOSTS[host] + name if host in HOSTS else "",
        )
        for owner, name, host, size, digest in rows
        if owner == dataset
    )


def published_digest(files: tuple[SourceFile, ...], path: Path) -> str:
    """The digest to compare a file with, "" where none is published.

    A file whose content is known is recognised unpacked too, when it has lost its `.gz`.
    """
    known = {file.name: file.digest for file in files}
    unpacked = known.get(path.name + ".gz", "")
    return known.get(path.name) or (unpacked if unpacked.startswith("content-") else "")


def digest_of(path: Path, kind: str, report: Callable[[str, int, int], None] = lambda what, done, total: None) -> str:
    """Hex digest of a file.

    Args:
        path: the file.
        kind: "sha256" or "md5"; with "content-" before it, of what the file holds when it is gzipped.
        report: called with progress in bytes.

    Raises:
        UserError: what should be unpacked is damaged.
    """
    digest, done, size = hashlib.new(kind.removeprefix("content-")), 0, path.stat().st_size
    try:
        with open(path, "rb") as raw:
            packed = kind.startswith("content-") and raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
            while block := stream.read(1 << 20):
                digest.update(block)
                done = raw.tell() if packed else done + len(block)
                report(f"checking {path.name}", min(done, size), size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); get it again") from error
    return digest.hexdigest()
