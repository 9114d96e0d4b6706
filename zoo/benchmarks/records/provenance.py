"""How a number came to be: date, command line, versions and hardware of this process."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any


def stamp() -> dict[str, Any]:
    """Date, command line, versions and hardware of this process, as fields of a line."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "versions": _versions(),
        "hardware": _hardware(),
    }


def _command() -> str:
    """The command line, without the folders of the interpreter and the script."""
    import shlex
    import sys

    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return shlex.join(["zoo" if program in ("zoo", "__main__.py") else program, *sys.argv[1:]])


def _versions() -> dict[str, str]:
    """Versions of what a number can depend on, read from the installed metadata."""
    import importlib.metadata
    import platform

    found = {"python": platform.python_version()}
    for name in ("likelihood-zoo", "torch", "lightning", "numpy", "constriction", "pillow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, str | int | float]:
    """Kind of machine: processor, cores this process may use, threads and accelerator; no names."""
    import platform
    import sys

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int | float] = {"processor": platform.machine(), "cores": cores}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        rows = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        found["processor"] = rows[0].split(":", 1)[1].strip() if rows else platform.machine()
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["accelerator"] = torch.cuda.get_device_name()
    return found
