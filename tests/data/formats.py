"""Tiny sources in the true official layouts, made byte by byte."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(count, height, width, channels=3, seed=0) -> np.ndarray:
    """Smooth random pictures (JPEG changes them little)."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    return np.stack(
        [
            np.stack([np.asarray(Image.fromarray(image[..., c]).resize((width, height))) for c in range(channels)], -1)
            for image in small
        ]
    )


def image_file(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


# MNIST ---------------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, count: int = 20, compressed: bool = True) -> dict[str, np.ndarray]:
    made = {}
    for stem, seed in (("train", 1), ("t10k", 2)):
        images = pixels(count, 28, 28, 1, seed)
        labels = np.arange(count, dtype=np.uint8) % 10
        made[stem] = images
        for name, array in ((f"{stem}-images-idx3-ubyte", images[..., 0]), (f"{stem}-labels-idx1-ubyte", labels)):
            content = idx(array)
            path = folder / (name + (".gz" if compressed else ""))
            path.write_bytes(gzip.compress(content) if compressed else content)
    return made


def write_amat(folder: Path, count: int = 5) -> dict[str, np.ndarray]:
    made = {}
    for number, part in enumerate(("train", "valid", "test")):
        digits = np.random.default_rng(number).integers(0, 2, (count, 784))
        lines = [" ".join(map(str, row)) + "\n" for row in digits]
        (folder / f"binarized_mnist_{part}.amat").write_text("".join(lines))
        made[part] = (digits.reshape(-1, 28, 28, 1) * 255).astype(np.uint8)
    return made


# pickles -------------------------------------------------------------------------------------------------------------


def _py2_string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def _py2_int(value: int) -> bytes:
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)


def _py2_list(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _py2_array(array: np.ndarray) -> bytes:
    """A uint8 array as numpy 1 under Python 2 pickled it (protocol 2)."""
    dtype = b"cnumpy\ndtype\n" + _py2_string(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _py2_string(b"|") + b"NNN" + _py2_int(-1) * 2 + b"K\x00tb"
    shape = b"".join(map(_py2_int, array.shape)) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _py2_string(b"b") + b"\x87R"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _py2_string(array.tobytes()) + b"tb"


def py2_batch(rows: np.ndarray, labels: list[int], **extra: bytes) -> bytes:
    """A CIFAR batch as Python 2 wrote it: protocol 2, byte strings everywhere."""
    entries = {b"data": _py2_array(rows), b"labels": _py2_list([_py2_int(label) for label in labels])}
    entries |= {key.encode(): _py2_string(value) for key, value in extra.items()}
    return b"\x80\x02}(" + b"".join(_py2_string(key) + value for key, value in entries.items()) + b"u."


def channel_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def write_cifar(folder: Path, per_batch: int = 4) -> tuple[Path, dict[str, np.ndarray]]:
    """cifar-10-python.tar.gz with all members of the official one, in its order."""
    path = folder / "cifar-10-python.tar.gz"
    made = {"train": [], "test": []}
    members = {"batches.meta": b"\x80\x02}q\x00."}
    for number in range(1, 7):
        name = f"data_batch_{number}" if number < 6 else "test_batch"
        images = pixels(per_batch, 32, 32, 3, seed=number)
        made["train" if number < 6 else "test"].append(images)
        labels = [(number + i) % 10 for i in range(per_batch)]
        members[name] = py2_batch(channel_first(images), labels, batch_label=b"testing batch 1 of 1")
    members["readme.html"] = b"<html></html>"
    order = ["data_batch_4", "readme.html", "test_batch", "data_batch_3", "batches.meta"]
    order += ["data_batch_2", "data_batch_5", "data_batch_1"]
    with tarfile.open(path, "w:gz") as tar:
        for name in order:
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
    return path, {part: np.concatenate(batches) for part, batches in made.items()}


# archives ------------------------------------------------------------------------------------------------------------


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# TFRecord ------------------------------------------------------------------------------------------------------------


def _eight_steps(crc: int) -> int:
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc


_STEPS = [_eight_steps(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """From the definition (reflected polynomial 0x82F63B78)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _STEPS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(image: np.ndarray, label: int) -> bytes:
    """`tf.train.Example` as Glow's records have it: bytes `data`, int64 lists `shape` and `label`."""
    ints = lambda values: _field(3, _field(1, b"".join(map(_varint, values))))  # noqa: E731 - packed int64 list
    features = {"data": _field(1, _field(1, image.tobytes())), "shape": ints(image.shape), "label": ints([label])}
    entries = (_field(1, _field(1, key.encode()) + _field(2, value)) for key, value in features.items())
    return _field(1, b"".join(entries))


def tfrecord(messages: list[bytes]) -> bytes:
    out = b""
    for message in messages:
        length = struct.pack("<Q", len(message))
        out += length + _masked(length) + message + _masked(message)
    return out
