"""One view of a folder, a zip and a tar: sorted names, and the bytes behind a name.

Members are read into memory one at a time, so an archive writes nowhere. Only for a library that insists on real files
(LMDB) does `unpack` write members by name, and it checks every path first.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import tarfile
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from zoo.data.images import MAX_FILE_BYTES
from zoo.errors import UserError
from zoo.imagefiles import (
    HEAD,
    PICTURES,
    called,
    files_below,
    hidden,
    in_order,
    kind_of,
    kind_of_file,
    looks_like_picture,
)

MAX_UNPACKED_RATIO = 200  # zip members that unfold further are bombs


class Tree(ABC):
    """Sorted file names and their contents."""

    path: Path
    names: list[str]
    skipped: Counter[str]  # what was left out, by reason

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of one file."""

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Whole content of one file.

        Raises:
            UserError: larger than `limit`, or damaged.
        """
        if self.size(name) > limit:
            raise UserError(
                f"{self.path}: {name} has {self.size(name):,} bytes, more than the {limit:,} allowed; refused"
            )
        with self._named_errors(name), self.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise UserError(f"{self.path}: {name} unfolds to more than the {limit:,} bytes allowed; refused as a bomb")
        return content

    def images(self) -> list[str]:
        """Files named like pictures, as the archives of known sets have them."""
        return [name for name in self.names if looks_like_picture(name)]

    def pictures(self) -> list[str]:
        """Files that are pictures by their content; others are counted as skipped.

        Raises:
            UserError: a file is named like a picture and is none.
        """
        found = []
        for name in self.names:
            kind = kind_of(self.head(name))
            if kind in PICTURES:
                found.append(name)
            elif looks_like_picture(name):
                raise UserError(f"{self.path}: {name}: {called(kind)}, though it is named like a picture; remove it")
            else:
                self.skipped["file(s) that are no pictures, skipped"] += 1
        return found

    def head(self, name: str) -> bytes:
        """The first bytes of one file.

        Raises:
            UserError: damaged.
        """
        with self._named_errors(name), self.open(name) as stream:
            return stream.read(HEAD)

    @contextlib.contextmanager
    def _named_errors(self, name: str) -> Iterator[None]:
        """What archives raise when they are damaged becomes one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # zipfile and tarfile raise nearly anything
            raise UserError(f"{self.path}: cannot read {name} ({error}); get the archive again") from error

    def matching(self, test: Callable[[str], bool]) -> list[str]:
        """Names whose last part passes a test."""
        return [name for name in self.names if test(PurePosixPath(name).name)]


class Folder(Tree):
    """A folder on disk; hidden files are left out, links out of it are not followed but counted."""

    def __init__(self, path: Path) -> None:
        found = files_below(path)
        self.path, self.names, self.skipped = path, found.names, found.skipped

    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one file."""
        return open(self.path / name, "rb")

    def size(self, name: str) -> int:
        """Bytes of one file."""
        return (self.path / name).stat().st_size


class Zip(Tree):
    """A zip file."""

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, Counter()
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # zipfile raises nearly anything
            raise UserError(f"{path}: damaged zip ({error}); get it again") from error
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        self._members = {info.filename: info for info in members}
        if len(self._members) < len(members):
            raise UserError(f"{path}: holds two files of one name; unpack it and give the folder")
        self.names = in_order(name for name in self._members if not hidden(_inside(path, name)))

    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one member."""
        member = self._members[name]
        if member.file_size > MAX_UNPACKED_RATIO * max(member.compress_size, 1 << 16):
            raise UserError(
                f"{self.path}: {name} unfolds from {member.compress_size:,} to {member.file_size:,} bytes; "
                "refused as a bomb"
            )
        return self._zip.open(member)

    def size(self, name: str) -> int:
        """Bytes of one member, unpacked."""
        return self._members[name].file_size


class Tar(Tree):
    """A tar file, plain or compressed; tars inside it (ImageNet's training archive) are opened as folders.

    Plain archives are read at their members' offsets; only (offset, size) and the name are kept of each.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, Counter()
        self._where: dict[str, tuple[int, int]] = {}
        try:
            unpack = _UNPACKERS.get(kind_of_file(path))
            self._plain = unpack is None
            stream = open(path, "rb") if unpack is None else _Bounded(unpack(path, "rb"))  # noqa: SIM115
            weakref.finalize(self, stream.close)
            self._tar = tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload] # noqa: SIM115
            self._index(self._tar, "", 0)
            while not self._plain and stream.read(1 << 20):  # to the end, where the checksum is compared
                pass
        except UserError:
            raise
        except Exception as error:  # tarfile raises nearly anything
            raise UserError(f"{path}: damaged tar ({error}); get it again") from error
        self._file = open(path, "rb") if self._plain else None  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        self.names = in_order(self._where)

    def _index(self, tar: tarfile.TarFile, prefix: str, base: int) -> None:
        for member in tar:
            if not member.isreg() and not member.isdir():
                self.skipped["link(s) and special files in the archive, not followed"] += 1
            if member.isreg() and not hidden(_inside(self.path, member.name)):
                name, offset = prefix + member.name, base + member.offset_data
                if member.name.endswith(".tar") and self._plain:
                    stream = tar.extractfile(member)
                    with tarfile.open(fileobj=stream) as inner:
                        self._index(inner, name[: -len(".tar")] + "/", offset)
                else:
                    self._where[name] = (offset, member.size)
            if self._plain:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps about 1 kB of each member, 1.3 GB for ImageNet

    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one member."""
        offset, size = self._where[name]
        if self._file is not None:
            return _Slice(self._file, offset, size)  # type: ignore[return-value]
        stream = self._tar.extractfile(name)
        assert stream is not None
        result: IO[bytes] = stream
        return result

    def size(self, name: str) -> int:
        """Bytes of one member."""
        return self._where[name][1]


class _Bounded:
    """A stream that refuses to give more at once than an honest archive asks for (headers claim what they like)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.close, self.seek, self.tell = stream, stream.close, stream.seek, stream.tell

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MAX_FILE_BYTES:
            raise OSError(f"a header asks for {count:,} bytes")
        return self._stream.read(count)


_UNPACKERS: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}


class _Slice:
    """Read-only window of a file."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._at
        self._file.seek(self._offset + self._at)
        content = self._file.read(left if count < 0 else min(count, left))
        self._at += len(content)
        return content

    def seek(self, offset: int) -> int:
        self._at = min(max(0, offset), self._size)
        return self._at

    def __enter__(self) -> _Slice:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _inside(archive: Path, name: str) -> str:
    """The name, if unpacking it would stay inside the folder; no official archive has another.

    Raises:
        UserError: an absolute name, or one that climbs out.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")):
        raise UserError(f"{archive}: member '{name}' would be written outside its folder; the archive is refused")
    return name


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar by its name."""
    return path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def open_tree(path: Path) -> Tree:
    """View a folder, zip or tar as a tree.

    Raises:
        UserError: missing, or none of these.
    """
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; give the path of the archive or of the folder it unpacks to")
    kind = kind_of_file(path)
    if kind == "zip":
        return Zip(path)
    if kind not in ("tar", *_UNPACKERS) and not is_archive(path):
        raise UserError(f"{path}: {called(kind)}; expected a folder, a zip or a tar")
    return Tar(path)


def unpack(tree: Tree, folder: Path) -> Iterator[Path]:
    """Write all files of a tree below a folder.

    Raises:
        UserError: a name that leads out of the folder.
    """
    root = folder.resolve()
    for name in tree.names:
        target = (root / name).resolve()
        if not target.is_relative_to(root):
            raise UserError(f"{tree.path}: member '{name}' would be written outside its folder; refused")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tree.open(name) as stream, open(target, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield target
