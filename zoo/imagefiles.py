"""Image files as they are: told by content, found in folders, described before anything is decoded.

Every command finds and opens pictures through this file, so a name never decides what a file is, hidden files are left
out everywhere, and what cannot be kept (16 bits, transparency) is known before the work begins.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from zoo.errors import UserError

MAX_PIXELS = 64_000_000  # of one image; FFHQ's largest originals stay below
HEAD = 1024  # bytes that tell the kind of a file

_PILLOW = {
    "png": ("PNG",),
    "jpeg": ("JPEG", "MPO"),
    "webp": ("WEBP",),
    "bmp": ("BMP",),
    "gif": ("GIF",),
    "tiff": ("TIFF",),
    "pnm": ("PPM",),
}
PICTURES = tuple(_PILLOW)
_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
_MAGIC = (  # (where, bytes, kind)
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (0, b"GIF8", "gif"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (257, b"ustar", "tar"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"zoo-images ", "data"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (512, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"version https://git-lfs", "lfs"),
    (4, b"ftypavif", "avif"),
    (4, b"ftyphei", "heic"),
    (4, b"ftypmif1", "heic"),
    (0, b"\xff\x0a", "jxl"),
    (4, b"JXL \r\n", "jxl"),
    (4, b"jP  \r\n", "jp2"),
    (0, b"%PDF", "pdf"),
    (0, b"8BPS", "psd"),
)
_CALLED = {
    "": "of no kind that is known here",
    "empty": "empty",
    "lfs": "a pointer of git-lfs, not the file itself (fetch it with `git lfs pull`)",
    "html": "a web page (download the file itself)",
    "data": "a prepared data file",
    "npy": "a numpy array",
}


def kind_of(head: bytes) -> str:
    """What a file is by its first `HEAD` bytes: one of `PICTURES`, "npy", "zip", "tar", ...; "" if unknown."""
    if not head:
        return "empty"
    for where, magic, kind in _MAGIC:
        if head[where : where + len(magic)] == magic and (kind != "webp" or head.startswith(b"RIFF")):
            return kind
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return "bmp"
    if re.match(rb"P[1-6][\s#]", head):
        return "pnm"
    if re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE):
        return "html"
    return ""


def called(kind: str) -> str:
    """A kind in words, for messages."""
    return _CALLED.get(kind, f"a file of kind {kind.upper()}")


def kind_of_file(path: Path) -> str:
    """What a file on disk is.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def looks_like_picture(name: str) -> bool:
    """Whether a name claims to be a picture."""
    return name.lower().endswith(_ENDINGS)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted so that batch_2 comes before batch_10, whatever order the file system gave.

    The key is a short string: ImageNet's million names need no more memory than they must.
    """
    return sorted(sorted(names), key=lambda name: re.sub(r"\d+", lambda digits: digits.group().zfill(12), name))


@dataclass
class Found:
    """Files of a search, and what was left out.

    Attributes:
        names: paths relative to the folder with "/" between, in order.
        skipped: how many were left out, by reason.
    """

    names: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """What was left out, one line a reason."""
        return [f"{count:,} {reason}" for reason, count in self.skipped.items()]


def files_below(folder: Path, deep: bool = True) -> Found:
    """Files of a folder; hidden ones are left out, links that lead out of it are not followed.

    Args:
        folder: where to look.
        deep: in subfolders too; else those are counted as skipped.

    Raises:
        UserError: a folder cannot be read.
    """
    found, root, open_folders = Found(), folder.resolve(), [""]
    while open_folders:
        inside = open_folders.pop()
        for entry in _entries(folder / inside):
            name = f"{inside}{entry.name}"
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                found.skipped["link(s) that lead out of the folder, not followed"] += 1
            elif entry.is_dir(follow_symlinks=False) and deep:
                open_folders.append(name + "/")
            elif entry.is_dir():
                found.skipped["subfolder(s) or link(s) to folders, not searched"] += 1
            elif entry.is_file():
                found.names.append(name)
            else:
                found.skipped["broken link(s), pipe(s) and the like"] += 1
    found.names = in_order(found.names)
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in one folder and is not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def hidden(name: str) -> bool:
    """Whether a path has a hidden part (".name"), or lies in the shadow folder that macOS puts into archives."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/") if part not in ("", "."))


def find_pictures(paths: Sequence[str | Path], also: Sequence[str] = (), deep: bool = False) -> Found:
    """The picture files among paths and in folders, told by content.

    Args:
        paths: files and folders.
        also: other kinds that are welcome, for example "npy".
        deep: search folders of folders.

    Returns:
        Paths as text, in order within each folder; other files of a folder are counted as skipped.

    Raises:
        UserError: a path is missing or no picture, a folder holds none, or a file is named like a picture and is none.
    """
    welcome, found = (*PICTURES, *also), Found()
    for path in map(Path, paths):
        if path.is_dir():
            below = files_below(path, deep)
            names = [name for name in below.names if _is_welcome(path / name, welcome, below)]
            if not names:
                raise UserError(f"{path}: no picture in this folder ({'; '.join(below.lines()) or 'it is empty'})")
            found.names += [str(path / name) for name in names]
            found.skipped += below.skipped
        elif path.is_file():
            if (kind := kind_of_file(path)) not in welcome:
                raise UserError(f"{path}: {called(kind)}; expected a picture ({', '.join(welcome)})")
            found.names.append(str(path))
        else:
            raise UserError(f"{path}: no such picture; give files or folders")
    return found


def _is_welcome(path: Path, welcome: Sequence[str], found: Found) -> bool:
    """Whether a file of a folder is taken; others are counted."""
    kind = kind_of_file(path)
    if kind not in welcome and looks_like_picture(path.name):
        raise UserError(f"{path}: {called(kind)}, though it is named like a picture; replace or remove it")
    if kind not in welcome:
        found.skipped["file(s) that are no pictures, skipped"] += 1
    return kind in welcome


@dataclass(frozen=True)
class Picture:
    """What a picture file says of itself.

    Attributes:
        kind: one of `PICTURES`.
        width: in pixels.
        height: in pixels.
        depth: bits of a sample, as the file has it (Pillow turns many deep files into 8 bits without a word).
        real: whether samples are floating-point numbers.
        mode: Pillow's word for the colours.
        alpha: whether there may be transparent pixels.
        several: whether more pictures follow (animation, pages); the small second picture of a camera is none.
        orientation: EXIF orientation, 1 = upright.
        profile: whether a colour profile is embedded.
    """

    kind: str
    width: int
    height: int
    depth: int
    real: bool
    mode: str
    alpha: bool
    several: bool
    orientation: int
    profile: bool


def open_picture(content: bytes | Path, name: str, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, Picture]:
    """Open a picture file without decoding it.

    Args:
        content: the file, or its bytes.
        name: for messages.
        max_pixels: the most that it may unfold to.

    Returns:
        Pillow's image and the file's description; `converted` decodes.

    Raises:
        UserError: damaged, no picture, or too large.
    """
    head = content[: HEAD * 64] if isinstance(content, bytes) else _head(content, HEAD * 64)
    kind = kind_of(head)
    if kind not in _PILLOW:
        raise UserError(f"{name}: {called(kind)}; expected a picture ({', '.join(PICTURES)})")
    if kind == "webp":  # Pillow makes the canvas before it tells its size
        _check_size(name, _webp_size(head), max_pixels)
    if kind == "png" and isinstance(content, bytes):
        _check_chunks(content, name)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit gives our own message
    try:
        image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=_PILLOW[kind])
        with contextlib.ExitStack() as on_error:
            on_error.enter_context(image)
            _check_size(name, image.size, max_pixels)
            described = _described(image, kind, head)
            on_error.pop_all()
        return image, described
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(f"{name}: damaged picture ({_reason(error)}); remove or replace it") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def converted(image: Image.Image, mode: str, name: str) -> Image.Image:
    """Decode a picture into another mode of Pillow.

    Raises:
        UserError: damaged.
    """
    try:
        return image.convert(mode)
    except Exception as error:
        raise UserError(f"{name}: damaged picture ({_reason(error)}); remove or replace it") from error


def _head(path: Path, count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _check_chunks(content: bytes, name: str) -> None:
    """Compare the checksums of a PNG file's chunks, which Pillow does for some of them only.

    Raises:
        UserError: one differs, or the file ends before its end chunk.
    """
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        stored = content[at + 8 + length : at + 12 + length]
        if len(stored) < 4 or zlib.crc32(memoryview(content)[at + 4 : at + 8 + length]) != int.from_bytes(stored):
            raise UserError(f"{name}: damaged picture (a checksum differs, or it was cut short); remove or replace it")
        at += 12 + length


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UserError(f"{name}: {width}x{height} pixels, more than the {max_pixels:,} allowed; refused as a bomb")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height in the first chunk of a WebP file."""
    kind, body = head[12:16], head[20:]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _described(image: Image.Image, kind: str, head: bytes) -> Picture:
    width, height = image.size
    depth, real = _depth(image, kind, head)
    return Picture(
        kind,
        width,
        height,
        depth,
        real,
        image.mode,
        alpha=image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info,
        several=image.format != "MPO" and bool(getattr(image, "is_animated", False)),
        orientation=int(image.getexif().get(0x0112, 1)),
        profile=bool(image.info.get("icc_profile")),
    )


def _depth(image: Image.Image, kind: str, head: bytes) -> tuple[int, bool]:
    """Bits of a sample, and whether samples are real numbers."""
    if kind == "png":
        return head[24], False
    if kind == "tiff":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return max(tags.get(258, (1,))), 3 in tags.get(339, ())
    if kind == "pnm":
        words = re.sub(rb"#[^\n]*", b"", head).split(None, 4)
        deepest = int(words[3]) if words[0] not in (b"P1", b"P4") else 1
        return deepest.bit_length(), False
    return 8, False
