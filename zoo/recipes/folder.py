"""A folder that belongs to one run, from its first moment to its last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from zoo.errors import UserError
from zoo.recipes.processes import is_first_process

LAST = "last.ckpt"
EXPORT = "last.safetensors"
BEST = "best.safetensors"
SAVED = "config.yaml"
"""Names of what a run leaves: state to continue from, averaged weights, the best of them, the configuration."""
LOCK = ".lock"


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run folder; it is made, tried for writing and locked, before any work is done.

    The lock is the system's: it goes with the process, however that ends. A folder in which nothing has been written
    is removed at the end. Of several processes of one run only the first one holds the folder.

    Raises:
        UserError: if another run holds it, or it cannot be written.
    """
    if not is_first_process():
        yield
        return
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    with _locked(folder) as lock:
        lock.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", file=lock, flush=True)
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            for path in made:
                with contextlib.suppress(OSError):  # something was written there
                    path.rmdir()


def _locked(folder: Path) -> TextIO:
    """The open and locked lock file of a folder."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / LOCK, "a+")  # noqa: SIM115 (held until the run ends)
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise UserError(f"{folder}: cannot be written ({reason}); choose another folder with --run_dir") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise UserError(
                f"{folder}: a run is going on here ({holder}); wait for it, or choose another folder with --run_dir"
            ) from error
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / LOCK)):
                return lock
        lock.close()  # its last holder has just removed the file


def check_new(folder: Path) -> None:
    """Refuse a folder in which a run has been.

    Raises:
        UserError: if there is one.
    """
    for name in (LAST, SAVED):
        if (folder / name).exists():
            raise UserError(
                f"{folder} holds a run already ({name}); continue it with --ckpt_path last, or choose another folder "
                "with --run_dir"
            )


def resume_file(wanted: str, folder: Path) -> str | None:
    """The checkpoint that `--ckpt_path` names; `last` is the one of the folder, or None if it has not been written.

    Raises:
        UserError: if there is no such file.
    """
    if wanted != "last":
        if not Path(wanted).is_file():
            raise UserError(f"{wanted}: no such checkpoint; give a file, or `last` to continue the run in {folder}")
        return str(Path(wanted).resolve())
    if (folder / LAST).is_file():
        return str((folder / LAST).resolve())
    if is_first_process():
        print(f"{folder / LAST} is not there yet: starting from the beginning")
    return None
