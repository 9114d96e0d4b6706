"""Files that are either whole or not there, and the only place that unpickles."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        yield temporary
        if temporary.exists():
            temporary.chmod(_mode(target))  # some writers make files that only their owner can read
            _flush(temporary)
            temporary.replace(target)
            _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


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


def safe_torch_load(path: str | os.PathLike[str]) -> Any:
    """Read a torch file without running code from it.

    Args:
        path: a file written by `torch.save`.

    Returns:
        The stored object, tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged, no torch file, or holds more than tensors and plain types.
    """
    import pickle

    import torch

    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint file; give the path of an existing one")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower() or "weights_only" in str(error):
            raise UserError(
                f"{file}: holds Python objects besides tensors and plain types and is not loaded, since that would "
                "run code from the file; re-save its state dict alone"
            ) from error
        raise UserError(f"{file}: damaged or not a torch checkpoint; copy or download it again") from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: damaged or not a torch checkpoint; copy or download it again") from error
