"""Damaged files of every kind that data sets are read from: what comes of each, as one table.

    python scripts/campaigns/damaged_data.py [--tries 600] [--only WORD] [--seed 0] [--output TABLE.md]

Every try damages one small whole file (flipped bits, cut, zeroed, overwritten with noise, spliced, doubled, numbers
set to their extremes) and reads it. It must end in the right images, in one clear error that names the file, or, where
the format has no checksum, unnoticed in other images. The readers run in a process of their own, which may take 10
seconds of its processor and 1 GB for a file; its death and its silence are counted too.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.data import formats
from zoo.data.datasets import DATASETS
from zoo.data.packed import PackedSplit, describe
from zoo.data.prepare import Preparation, prepare
from zoo.data.readers import ReadOptions, open_source
from zoo.errors import UserError, reading

SECONDS, MEGABYTES = 10, 1000
OUTCOMES = ("right", "clear error", "unnoticed", "wrong", "internal error", "too much memory", "crash", "hung")
BAD = OUTCOMES[3:]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of file: how to make a whole one below a folder, and how to read it."""

    make: Callable[[Path], Path]  # returns the file to damage
    read: Callable[[Path], str]  # folder -> digest of what was read
    checked: bool = False  # whether the format has checksums over everything
    share: float = 1.0  # of the tries; less where every reading starts a process


def _through(name: str, inside: str = "", **options: object) -> Callable[[Path], str]:
    """Read with the reader of a data set and digest pixels and labels."""

    def read(folder: Path) -> str:
        spec, path = DATASETS[name], folder / inside
        source = open_source(spec.reader, path, ReadOptions(spec.shape, **{"extra": spec.options} | options))
        digest = hashlib.sha256()
        with reading(path):
            for part in source.parts:
                for item in part.items():
                    digest.update(repr((part.name, item.image.shape, item.label)).encode() + item.image.tobytes())
        return digest.hexdigest()

    return read


def _pictures(kind: str, **save: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = formats.pixels(1, 24, 20, seed=5)[0]
        (folder / "a.img").write_bytes(formats.image_file(image, kind, **save))
        return folder / "a.img"

    return make


def _mnist(compressed: bool, which: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        formats.write_mnist(folder, 3, compressed)
        return next(folder.glob(which))

    return make


def _saved(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content())
        return folder / name

    return make


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, formats.pixels(3, 8, 12))
    return buffer.getvalue()


def _archive(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        members = {f"{i}.png": formats.image_file(image) for i, image in enumerate(formats.pixels(3, 8, 12))}
        return (formats.write_zip if name.endswith("zip") else formats.write_tar)(folder / name, members)

    return make


def _batch() -> bytes:
    return formats.py2_batch(formats.channel_first(formats.pixels(2, 32, 32)), [1, 2], batch_label=b"x")


def _prepared(encoding: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        side = 16 if encoding == "raw" else 520
        source = folder / "source"
        source.mkdir()
        for i, image in enumerate(formats.pixels(2, side, side)):
            (source / f"{i}.png").write_bytes(formats.image_file(image))
        prepare(Preparation("folder", source, folder / "x.h5", rule="test"))
        return folder / "x.h5"

    return make


def _read_prepared(folder: Path) -> str:
    digest = hashlib.sha256()
    for name, split in describe(folder / "x.h5").splits.items():
        images = PackedSplit(folder / "x.h5", name)
        digest.update(images.images(range(split.shape[0])).tobytes() + images.labels(range(split.shape[0])).tobytes())
    return digest.hexdigest()


def _lmdb(folder: Path) -> Path:
    import lmdb

    part = folder / "church_outdoor_val_lmdb"
    with lmdb.open(str(part), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for i, image in enumerate(formats.pixels(3, 256, 256)):
            transaction.put(f"{i:040x}".encode(), formats.image_file(image, "WEBP"))
    return part / "data.mdb"


def _amat(folder: Path) -> Path:
    formats.write_amat(folder, 2)
    return next(folder.glob("*test*"))


def _cifar(folder: Path) -> Path:
    return formats.write_cifar(folder, 1)[0]


def _celeba(folder: Path) -> Path:
    picture = formats.image_file(formats.pixels(1, 218, 178)[0], "JPEG")
    formats.write_zip(folder / "img_align_celeba.zip", {"000001.jpg": picture})
    (folder / "list_eval_partition.txt").write_text("000001.jpg 2\n")
    return folder / "list_eval_partition.txt"


def _codes(finished: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        writer = _code_writer(folder)
        _fill(writer)
        if finished:
            return writer.finish()
        writer.close()
        return writer.journal

    return make


def _code_writer(folder: Path):  # noqa: ANN202
    from zoo.data.codes import CodeWriter

    return CodeWriter(folder / "codes.h5", "k", ["top"], [(2, 3)], [7], {})


def _fill(writer) -> None:  # noqa: ANN001
    import torch

    for start in range(writer.done("train"), 9, 3):
        writer.append("train", [torch.arange(start, start + 18).reshape(3, 2, 3) % 7], torch.arange(start, start + 3))


def _read_codes(folder: Path) -> str:
    from zoo.data.codes import CodeReader, describe_codes
    from zoo.data.plans import Request

    if not (folder / "codes.h5").is_file():  # go on behind what an interrupted writer left
        writer = _code_writer(folder)
        try:
            if writer.done("train") % 3:
                raise AssertionError("a part of a batch was taken")
            _fill(writer)
            writer.finish()
        finally:
            writer.close()
    codes, labels = CodeReader(describe_codes(folder / "codes.h5", verify=True), "train").__getitems__(
        Request(np.arange(9))
    )
    return hashlib.sha256(codes.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def _split_file(folder: Path) -> Path:
    for i in range(3):
        (folder / f"{i}.png").write_bytes(formats.image_file(formats.pixels(1, 8, 8)[0]))
    (folder / "splits.txt").write_text("".join(f"{i}.png test\n" for i in range(3)))
    return folder / "splits.txt"


def _read_split_file(folder: Path) -> str:
    return _through("folder", split_file=folder / "splits.txt")(folder)


RECORDS = "val/a.tfrecords"
KINDS = {
    "idx images": Kind(_mnist(False, "train-images*"), _through("mnist")),
    "idx labels": Kind(_mnist(False, "train-labels*"), _through("mnist")),
    "idx images, gzip": Kind(_mnist(True, "train-images*"), _through("mnist"), checked=True),
    "idx labels, gzip": Kind(_mnist(True, "train-labels*"), _through("mnist"), checked=True),
    "amat": Kind(
        lambda folder: (formats.write_amat(folder, 2), next(folder.glob("*test*")))[1], _through("mnist-static")
    ),
    "npy": Kind(_saved("a", _npy), _through("folder", "a")),
    "npz": Kind(
        _saved("a", lambda: formats.npz(images=formats.pixels(3, 8, 12), labels=np.arange(3))),
        _through("folder", "a"),
        checked=True,
    ),
    "zip of PNG": Kind(_archive("a.zip"), _through("folder", "a.zip"), checked=True),
    "tar of PNG": Kind(_archive("a.tar"), _through("folder", "a.tar")),
    "CIFAR pickle": Kind(_saved("test_batch", _batch), _through("cifar10")),
    "CIFAR tar.gz": Kind(
        lambda folder: formats.write_cifar(folder, 1)[0], _through("cifar10", "cifar-10-python.tar.gz"), checked=True
    ),
    "ImageNet pickle": Kind(_saved("val_data", _batch), _through("imagenet32-box")),
    "TFRecord": Kind(
        _saved(RECORDS, lambda: formats.tfrecord([formats.example(i, 1) for i in formats.pixels(2, 32, 32)])),
        _through("imagenet32-small"),
    ),
    "LMDB": Kind(_lmdb, _through("lsun-church"), share=0.1),
    "CelebA partition": Kind(_celeba, _through("celeba64")),
    "split file": Kind(_split_file, _read_split_file),
    "PNG": Kind(_pictures("PNG"), _through("folder"), checked=True),
    "JPEG": Kind(_pictures("JPEG"), _through("folder")),
    "WebP": Kind(_pictures("WEBP", lossless=True), _through("folder")),
    "BMP": Kind(_pictures("BMP"), _through("folder")),
    "GIF": Kind(_pictures("GIF"), _through("folder")),
    "TIFF": Kind(_pictures("TIFF", compression="tiff_lzw"), _through("folder")),
    "PPM": Kind(_pictures("PPM"), _through("folder")),
    "resized PNG": Kind(_pictures("PNG"), _through("folder", resolution=16), checked=True),
    "prepared, raw": Kind(_prepared("raw"), _read_prepared, checked=True),
    "prepared, PNG": Kind(_prepared("png"), _read_prepared, checked=True),
    "codes": Kind(_codes(True), _read_codes, checked=True),
    "journal of codes": Kind(_codes(False), _read_codes, checked=True),
}
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0, 1 << 62, (1 << 64) - 1)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One kind of damage at a random place."""
    size = len(content)
    at, span = chance.randrange(size), chance.choice((1, 2, 4, 16, 100, 1000))
    if chance.random() < 0.4:
        at = chance.randrange(min(size, 200))  # headers lie at the start
    match chance.randrange(9):
        case 0:
            return content[:at]
        case 1 | 2:
            flipped = bytearray(content)
            for _ in range(chance.choice((1, 1, 1, 3, 20))):
                flipped[chance.randrange(size)] ^= 1 << chance.randrange(8)
            return bytes(flipped)
        case 3:
            return content[:at] + bytes(span) + content[at + span :]
        case 4:
            return content[:at] + chance.randbytes(span) + content[at + span :]
        case 5:
            return content[:at] + content[at + span :]
        case 6:
            start = chance.randrange(size)
            return content[:at] + content[start : start + span] + content[at:]
        case 7:
            value, width = chance.choice(EXTREMES), chance.choice((1, 2, 4, 8))
            number = (value & (1 << 8 * width) - 1).to_bytes(width, chance.choice(("big", "little")))
            return content[:at] + number + content[at + width :]
        case _:
            return content[: at // 2] + content[at:] if chance.random() < 0.5 else content + content[:at]


def attempts(name: str, seed: int, start: int, stop: int, output: int) -> None:
    """Run tries `start` to `stop` in this process; one line each, written as soon as it is known."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        target = kind.make(folder)
        content, right = target.read_bytes(), kind.read(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(start, stop):
            for stale in folder.glob("codes.*"):
                stale.unlink()
            change = damaged(content, random.Random(f"{name}/{seed}/{number}"))
            target.write_bytes(change)
            started = time.process_time()
            outcome = _outcome(kind, folder, right, place)
            if time.process_time() - started > SECONDS:
                outcome = "hung\tfor some time"
            if (peak := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) - before > MEGABYTES * 1024:
                outcome, before = f"too much memory\t{(peak - before) >> 10} MB", peak
            os.write(output, f"{number}\t{outcome}\n".encode())


def _outcome(kind: Kind, folder: Path, right: str, place: str) -> str:
    try:
        found = kind.read(folder)
    except UserError as error:
        named = place in str(error) and "\n" not in str(error)
        return "clear error" if named else f"internal error\tthe error names no file: {error}"
    except Exception as error:  # what a user must never see
        return f"internal error\t{type(error).__name__}: {error}".replace("\n", " ")
    if found == right:
        return "right"
    return "wrong" if kind.checked else "unnoticed"


def campaign(name: str, tries: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Outcomes of one kind of file, and a line on each bad one."""
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    done, tries = 0, max(4, round(tries * KINDS[name].share))
    while done < tries:
        for number, outcome, detail in _lines(name, seed, done, tries):
            counts[outcome] += 1
            done = number + 1
            if outcome in BAD:
                complaints.append(f"{name}, try {number}: {outcome} {detail}")
    return counts, complaints


def _lines(name: str, seed: int, start: int, stop: int) -> Iterator[tuple[int, str, str]]:
    """Outcomes from a process of its own; its death or silence is the outcome of the try it was at."""
    end, output = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            attempts(name, seed, start, stop, output)
        finally:
            os._exit(0)
    os.close(output)
    number, waiting = start, time.monotonic()
    with open(end, "rb", buffering=0) as stream:
        pending = b""
        while number < stop:
            ready, _, _ = select.select([stream], [], [], 1)
            if (
                not ready and time.monotonic() - waiting > 6 * SECONDS
            ):  # the machine may be busy; processor time is short
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                yield number, "hung", ""
                return
            if not ready:
                continue
            piece = stream.read(1 << 16)
            if not piece:
                break
            waiting = time.monotonic()
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                found, outcome, *detail = line.decode().split("\t")
                number = int(found) + 1
                yield int(found), outcome, detail[0] if detail else ""
    _, status = os.waitpid(child, 0)
    if number < stop:
        yield number, "crash", f"status {status}"


def table(results: dict[str, Counter[str]]) -> str:
    """Markdown: one row a kind, and their sum."""
    rows = [*results.items(), ("all", sum(results.values(), Counter()))]
    lines = ["| kind | tried | " + " | ".join(OUTCOMES) + " |", "|---|" + "--:|" * (len(OUTCOMES) + 1)]
    for name, counts in rows:
        cells = [f"{counts.total():,}", *(f"{counts[outcome]:,}" for outcome in OUTCOMES)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the campaign and print its table; the exit status is 1 if anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--tries", type=int, default=400, help="damaged files of each kind")
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the table, Markdown")
    arguments = parser.parse_args()
    results, bad = {}, []
    for name in KINDS:
        if arguments.only in name:
            results[name], complaints = campaign(name, arguments.tries, arguments.seed)
            bad += complaints
            print(name, dict(results[name]), flush=True)
    print("\n".join(bad), file=sys.stderr)
    text = table(results)
    print(text)
    if arguments.output:
        arguments.output.write_text(text)
    return 1 if bad else 0


if __name__ == "__main__":
    Image.init()
    sys.exit(main())
