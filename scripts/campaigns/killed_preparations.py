"""Preparing data and extracting codes, killed at random moments: what is left, as one table.

    python scripts/campaigns/killed_preparations.py [--kills 40] [--only WORD] [--seed 0] [--output TABLE.md]

Every try starts the command, kills it after a random part of the time that it takes (SIGKILL, SIGTERM or SIGINT), and
looks: under the final name there must be nothing or a whole file. Then the command runs to its end, after which the
file must hold what an undisturbed run makes, and nothing else may lie beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from zoo.data.codes import describe_codes
from zoo.data.verify import verify
from zoo.errors import UserError

ROOT = Path(__file__).parents[2]
OUTCOMES = ("nothing left", "whole file", "finished before", "torn file", "leftovers", "not restartable")
BAD = OUTCOMES[3:]
EXTRACT = """
import sys
from pathlib import Path
import torch
from zoo.data.codes import CodeWriter
writer = CodeWriter(Path(sys.argv[1]), "k", ["top"], [(8, 8)], [512], {})
for start in range(writer.done("train"), 3200, 32):
    codes = torch.arange(start, start + 2048).reshape(32, 8, 8) % 512
    writer.append("train", [codes], torch.arange(start, start + 32))
writer.finish()
"""


def _prepare(folder: Path) -> tuple[list[str], Path, Callable[[Path], str]]:
    source, output = folder / "x.npy", folder / "out" / "x.h5"
    if not source.exists():
        np.save(source, np.random.default_rng(0).integers(0, 256, (4000, 64, 64, 3), dtype=np.uint8))
    command = ["-m", "zoo", "data", "prepare", "folder", "--source", str(source), "--output", str(output)]
    return command, output, lambda path: "".join(split.sha256 for split in verify(path).splits.values())


def _extract(folder: Path) -> tuple[list[str], Path, Callable[[Path], str]]:
    output = folder / "out" / "codes.h5"
    return ["-c", EXTRACT, str(output)], output, lambda path: str(describe_codes(path, verify=True).counts)


COMMANDS = {"zoo data prepare": _prepare, "extraction of codes": _extract}


def attempt(name: str, folder: Path, chance: random.Random, seconds: float, right: str) -> str:
    """Kill once, look, and run to the end."""
    command, output, read = COMMANDS[name](folder)
    how = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(chance.uniform(0, 1.1 * seconds))
    finished = process.poll() is not None
    if not finished:
        os.kill(process.pid, how)
        process.wait()
    try:
        outcome = ("whole file" if read(output) == right else "torn file") if output.exists() else "nothing left"
    except UserError:
        return "torn file"
    again = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=False)
    if again.returncode or read(output) != right:
        return "not restartable"
    if [path.name for path in output.parent.iterdir()] != [output.name]:
        return "leftovers"
    return "finished before" if finished else outcome


def campaign(name: str, kills: int, seed: int) -> Counter[str]:
    """Outcomes of so many kills."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command, output, read = COMMANDS[name](folder)
        started = time.monotonic()
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
        seconds, right = time.monotonic() - started, read(output)
        for number in range(kills):
            output.unlink(missing_ok=True)
            counts[attempt(name, folder, random.Random(f"{name}/{seed}/{number}"), seconds, right)] += 1
    return counts


def table(results: dict[str, Counter[str]]) -> str:
    """Markdown: one row a command."""
    lines = ["| command | killed | " + " | ".join(OUTCOMES) + " |", "|---|" + "--:|" * (len(OUTCOMES) + 1)]
    for name, counts in results.items():
        cells = [str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the campaign and print its table; the exit status is 1 if anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=40, help="kills of each command")
    parser.add_argument("--only", default="", help="commands with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the table, Markdown")
    arguments = parser.parse_args()
    results = {}
    for name in COMMANDS:
        if arguments.only in name:
            results[name] = campaign(name, arguments.kills, arguments.seed)
            print(name, dict(results[name]), flush=True)
            if arguments.output:
                arguments.output.write_text(table(results))
    print(table(results))
    return 1 if any(counts[outcome] for counts in results.values() for outcome in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
