"""Is a prepared file still what was written: its seal is compared when it is first opened, and that is remembered.

The first 512 bytes of a file (HDF5 leaves them to the user) hold a seal: our name and the sha256 of all that follows.
Comparing reads the whole file, so it is done once for a large file as it is on disk: its device, inode, size and last
change are noted in `$ZOO_HOME/compared`, and a file that changed in any of them is read again. Small files are compared
once in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from zoo.errors import UserError

SEAL_BYTES = 512  # user block of the HDF5 file
SEAL_START = b"zoo-images 1\nsha256 "  # followed by the digest of everything behind the seal
LARGE = 32 << 20  # bytes from which a comparison is remembered between processes
SLOW = 1 << 30  # bytes from which it is announced
_compared: set[str] = set()  # in this process


def seal(path: Path, start: bytes = SEAL_START) -> None:
    """Put the digest of everything behind the seal into the seal, and remember that it was compared."""
    with open(path, "r+b") as file:
        file.seek(SEAL_BYTES)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        file.write((start + digest.encode()).ljust(SEAL_BYTES, b"\n"))
        file.flush()
        os.fsync(file.fileno())
    _remember(path)


def read_seal(path: str | os.PathLike[str], start: bytes = SEAL_START) -> str:
    """Digest in a file's seal; having one shows that its writer came to the end.

    Raises:
        UserError: missing file, or no seal of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such data file; make it with `zoo data prepare`, or check the path")
    with open(path, "rb") as file:
        head = file.read(SEAL_BYTES)
    if not head.startswith(start) or len(head) < SEAL_BYTES:
        raise UserError(f"{path}: not a file of `zoo data prepare` (or one cut short); prepare it with that command")
    return head[len(start) :].decode("ascii", "replace").strip()


def check_seal(
    path: Path,
    report: Callable[[str, int, int], None] | None = None,
    always: bool = False,
    start: bytes = SEAL_START,
) -> None:
    """Compare a file with its seal, if that was not done since it last changed.

    Args:
        path: a prepared file.
        report: called with progress.
        always: compare even if it was done before.
        start: what the seal begins with.

    Raises:
        UserError: missing, unsealed, or any byte differs from what was written.
    """
    recorded, state = read_seal(path, start), _state(path)
    if not always and (state in _compared or _note(state).is_file()):
        return
    if report is None and path.stat().st_size > SLOW:
        print(f"{path}: comparing every byte with its seal, once for this file", file=sys.stderr)
    size, done, digest = path.stat().st_size, SEAL_BYTES, hashlib.sha256()
    with open(path, "rb") as file:
        padding = file.read(SEAL_BYTES)[len(start) + 64 :]
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if report is not None:
                report("checking bytes", done, size)
    if digest.hexdigest() != recorded or padding.strip(b"\n"):
        raise UserError(f"{path}: bytes differ from what was written (bad disk or copy?); prepare or copy it again")
    _remember(path)


def _state(path: Path) -> str:
    """What identifies a file as it is on disk now."""
    facts = path.stat()
    return f"{facts.st_dev:x}-{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"


def _note(state: str) -> Path:
    return Path(os.environ.get("ZOO_HOME") or "~/.cache/zoo").expanduser() / "compared" / state


def _remember(path: Path) -> None:
    """Note that the file as it is on disk is what was written; nothing is lost where that cannot be stored."""
    state = _state(path)
    _compared.add(state)
    if path.stat().st_size >= LARGE:
        with contextlib.suppress(OSError):
            _note(state).parent.mkdir(parents=True, exist_ok=True)
            _note(state).touch()
