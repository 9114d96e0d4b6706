"""Run `zoo` as real processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """One thread, and the test models importable by name."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def start(*argv: object, cwd: Path) -> subprocess.Popen[str]:
    """Start `zoo` with these arguments."""
    command = [sys.executable, "-m", "zoo", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=cwd, env=environment(), text=True, **pipes)


def run(*argv: object, cwd: Path) -> str:
    """Run `zoo` to its end and return what it printed; anything but status 0 fails the test."""
    process = start(*argv, cwd=cwd)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output
