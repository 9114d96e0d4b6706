"""One view of a folder, a zip and a tar: sorted names, and the bytes behind a name.

Members are read into memory one at a time and never unpacked by name, so an archive cannot write anywhere. Where a
library insists on real files (LMDB), `unpack` checks every path first.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from zoo.data.images import IMAGE_SUFFIXES, MAX_FILE_BYTES
from zoo.errors import UserError

MAX_UNPACKED_RATIO = 200  # zip members that unfold further are bombs


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted so that batch_2 comes before batch_10, whatever order the file system gave.

    The key is a short string: ImageNet's million names need no more memory than they must.
    """
    return sorted(sorted(names), key=lambda name: re.sub(r"\d+", lambda digits: digits.group().zfill(12), name))


class Tree(ABC):
    """Sorted file names and their contents."""

    path: Path
    names: list[str]

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
        try:
            with self.open(name) as stream:
                content = stream.read(limit + 1)
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as error:
            raise UserError(f"{self.path}: cannot read {name} ({error}); get the archive again") from error
        if len(content) > limit:
            raise UserError(f"{self.path}: {name} unfolds to more than the {limit:,} bytes allowed; refused as a bomb")
        return content

    def images(self, below: str = "") -> list[str]:
        """Names of image files, optionally only those below a folder name anywhere in the path."""
        found = [name for name in self.names if name.lower().endswith(IMAGE_SUFFIXES)]
        return [name for name in found if not below or below in PurePosixPath(name).parts[:-1]]

    def matching(self, test: Callable[[str], bool]) -> list[str]:
        """Names whose last part passes a test."""
        return [name for name in self.names if test(PurePosixPath(name).name)]


class Folder(Tree):
    """A folder on disk; hidden files are left out, links out of it are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        root = path.resolve()
        files = (file for file in path.rglob("*") if file.is_file() and file.resolve().is_relative_to(root))
        relative = (file.relative_to(path) for file in files)
        names = (file.as_posix() for file in relative if not any(part.startswith(".") for part in file.parts))
        self.names = in_order(names)

    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one file."""
        return open(self.path / name, "rb")

    def size(self, name: str) -> int:
        """Bytes of one file."""
        return (self.path / name).stat().st_size


class Zip(Tree):
    """A zip file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{path}: damaged zip; get it again") from error
        self._members = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        self.names = in_order(name for name in self._members if _visible(_inside(path, name)))

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
        self.path = path
        self._where: dict[str, tuple[int, int]] = {}
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - read from for as long as this object lives
            weakref.finalize(self, self._tar.close)
            self._plain = not path.name.endswith((".gz", ".tgz", ".bz2", ".xz"))
            self._index(self._tar, "", 0)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"{path}: damaged tar; get it again") from error
        self._file = open(path, "rb") if self._plain else None  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        self.names = in_order(self._where)

    def _index(self, tar: tarfile.TarFile, prefix: str, base: int) -> None:
        for member in tar:
            if member.isreg() and _visible(_inside(self.path, member.name)):
                name, offset = prefix + member.name, base + member.offset_data
                if member.name.endswith(".tar") and self._plain:
                    stream = tar.extractfile(member)
                    with tarfile.open(fileobj=stream) as inner:
                        self._index(inner, name[: -len(".tar")] + "/", offset)
                else:
                    self._where[name] = (offset, member.size)
            if self._plain:
                tar.members = []  # tarfile keeps about 1 kB of each member, 1.3 GB for ImageNet

    def open(self, name: str) -> IO[bytes]:
        """Readable stream of one member."""
        offset, size = self._where[name]
        if self._file is not None:
            return _Slice(self._file, offset, size)  # type: ignore[return-value]
        stream = self._tar.extractfile(name)
        assert stream is not None
        return stream

    def size(self, name: str) -> int:
        """Bytes of one member."""
        return self._where[name][1]


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


def _visible(name: str) -> bool:
    """Not a hidden file, not macOS's shadow of one."""
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts if part != ".")


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
    if not is_archive(path):
        raise UserError(f"{path}: expected a folder, a .zip or a .tar")
    return Zip(path) if path.suffix == ".zip" else Tar(path)


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
