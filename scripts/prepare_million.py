"""Prepare and read a large generated data set; print seconds and peak memory of each step, then delete everything.

    python scripts/prepare_million.py --images 1000000

Every step runs in a process of its own, so that its peak memory is its own. Pages of mapped files count towards the
resident size although the system may drop them at any time; anonymous memory (the process's own) is shown beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 32
CHUNK = 10_000

READ = """
import sys
from zoo.data.datamodule import ImageDataModule
loader = ImageDataModule(sys.argv[1], batch_size=64, test_split=sys.argv[2]).{}_dataloader()
print(sum(len(images) for images, _ in loader), "images read")
"""
MONITOR = """
import re, subprocess, sys, time
process = subprocess.Popen(sys.argv[1:])
peak = own = 0
while process.poll() is None:
    try:
        status = open(f"/proc/{process.pid}/status").read()
    except OSError:
        break
    found = dict(re.findall(r"(VmHWM|RssAnon):\\s+(\\d+) kB", status))
    peak, own = max(peak, int(found.get("VmHWM", 0))), max(own, int(found.get("RssAnon", 0)))
    time.sleep(0.05)
print(f"peak resident {peak / 1024:.0f} MB, of it own {own / 1024:.0f} MB")
sys.exit(process.returncode)
"""


def run(title: str, *command: str) -> None:
    """Run one step under the memory monitor and print what it took."""
    print(f"{title}:", flush=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", MONITOR, *command], check=True)
    print(f"  {time.perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    """Generate, prepare, verify, read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to put the temporary files (twice 3 kB an image)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        source, output = Path(temporary) / "source.npy", Path(temporary) / "prepared.h5"
        generator = np.random.default_rng(0)
        with open(source, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (args.images, SIDE, SIDE, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, args.images, CHUNK):
                count = min(CHUNK, args.images - start)
                file.write(generator.integers(0, 256, count * SIDE * SIDE * 3, dtype=np.uint8).tobytes())
        zoo = (sys.executable, "-m", "zoo", "data")
        run("prepare", *zoo, "prepare", "folder", "--source", str(source), "--output", str(output))
        run("verify", *zoo, "verify", str(output))
        for kind, split in (("train", "test"), ("test", "train")):
            run(f"read the train split, {'shuffled' if kind == 'train' else 'in order'}",
                sys.executable, "-c", READ.format(kind), str(output), split)  # fmt: skip


if __name__ == "__main__":
    main()
