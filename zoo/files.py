"""Files that are either whole or not there, and places that can be written."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Path to write to; the file takes its final name only when the block ends without an error.

    The temporary file stands beside the target (same file system, same suffix), is flushed to disk before it is renamed
    and removed when the block raises, so a killed or failed writer leaves nothing under the final name.

    Args:
        path: final name; missing folders are made.

    Yields:
        The temporary path. Writing nothing to it leaves the target as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem[:200]}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    with writing(target), new_folder(target.parent):
        try:
            yield temporary
            if temporary.exists():
                temporary.chmod(_mode(target))  # some writers make files that only their owner can read
                _flush(temporary)
                temporary.replace(target)
                _flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Boundary around a writer: a full disk or a place that cannot be written becomes one line that names the file.

    Raises:
        UserError: instead of what the library makes of it; other errors pass as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        trouble = _cannot_write(error, target.parent)
        if trouble is None:
            raise
        raise UserError(f"{target}: cannot be written ({trouble})") from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; those that were not there are removed again if they are empty in the end."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]  # innermost first
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for place in missing:
            with contextlib.suppress(OSError):  # not empty: that is what it was made for
                place.rmdir()


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Folder to fill; it takes its final name, with everything in it, only when the block ends without an error.

    What a killed run left beside the target is removed by the next one.

    Args:
        path: final name; must not exist yet, or be an empty folder.

    Yields:
        The temporary folder.

    Raises:
        UserError: if there is something already, or the place cannot be written.
    """
    target = Path(os.path.abspath(path))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{path}: exists already; name a new or an empty folder")
    prefix = f".{target.name[:200]}.part-"
    temporary = target.with_name(prefix + uuid.uuid4().hex[:8])
    with writing(target), new_folder(target.parent):
        for left in target.parent.glob(f"{glob.escape(prefix)}*"):
            with _locked(left) as free:
                if free:
                    shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        try:
            with _locked(temporary):
                yield temporary
                for file in (item for item in temporary.rglob("*") if item.is_file()):
                    _flush(file)
                temporary.replace(target)
                _flush(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether a folder was free to be locked; the lock ends with the block or the process."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is cleaned
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
            return
        yield False
    finally:
        os.close(descriptor)


def check_place(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a file can be written, without leaving anything.

    Raises:
        UserError: it is a folder, or its own folder cannot be made or written.
    """
    target = Path(path)
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file")
    with atomic_path(target.with_name(f".{target.name[:200]}.place")) as temporary:
        temporary.touch()
        temporary.unlink()


_WRITING: tuple[int, ...] = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
_WRITING += (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)


def _cannot_write(error: Exception, folder: Path) -> str | None:
    """Why a file cannot be written, if that is what an error means; libraries hide a full disk in many ways."""
    with contextlib.suppress(OSError):
        if "No space left" in str(error) or shutil.disk_usage(folder).free < _FULL:
            return "the disk is full; make room and run again"
    if isinstance(error, OSError) and error.errno in _WRITING:
        return f"{os.strerror(error.errno)}; choose another place, or mend its permissions"
    return None


_FULL = 1 << 16  # bytes left on a disk that is as good as full


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or the usual ones of a new file."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush(path: Path) -> None:
    """Ask the system to put a file or a folder entry on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse to flush folders
        pass
    finally:
        os.close(descriptor)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def zoo_home() -> Path:
    """Where fetched checkpoints and notes are kept: `$ZOO_HOME`, by default `~/.cache/zoo`."""
    return Path(os.environ.get("ZOO_HOME") or "~/.cache/zoo").expanduser()
