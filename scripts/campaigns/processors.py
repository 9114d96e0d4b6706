"""Write `.zoo` files of every family under some vector instructions, read them under others; prints one table.

    python scripts/campaigns/processors.py --files 204 --output docs/campaigns/processors.md

Other processors are simulated by the variables that ATen, oneDNN and MKL read. A portable file must decode wherever
AVX2 is there; a native one where the same instructions are in use, and be refused before any work elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

SURROUNDINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "ATen without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "oneDNN with SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
}
STEPS = 5  # of models that have a choice


def work(orders: list[dict[str, Any]], portable: bool) -> None:
    """Write or read files in this process; one line of JSON each."""
    from zoo import portable as kernels

    if portable:
        kernels.cap()
    import numpy as np
    import torch

    from zoo.checkpoints import load
    from zoo.codec import Options, decode, encode, from_batch
    from zoo.data.locate import locate
    from zoo.data.packed import PackedSplit
    from zoo.errors import UserError
    from zoo.likelihood import from_levels, to_levels

    pictures = PackedSplit(locate("photos"), "test")
    models: dict[str, Any] = {}
    for order in orders:
        loaded = models.setdefault(order["checkpoint"], None) or load(order["checkpoint"])
        models[order["checkpoint"]], model = loaded, loaded.network
        if model.steps is not None:
            model.steps = STEPS
        side = model.image_shape[1]
        pixels = np.ascontiguousarray(pictures.images([order["number"] % len(pictures)]).transpose(0, 3, 1, 2))
        x = from_levels(to_levels(torch.from_numpy(pixels[:, :, :side, :side].copy()), model.bits), model.bits)
        images = from_batch(x)
        path, start = Path(order["file"]), time.perf_counter()
        if order["write"]:
            path.write_bytes(encode(model, loaded.identity, images, Options(8, order["chained"]))[0])
            continue
        try:
            ((_, _, back),) = decode(model, loaded.identity, path.read_bytes(), path.name)
            result = "right" if np.array_equal(back, images[0].load(0)) else "wrong"
        except UserError as error:
            result = "refused before work" if "instructions, this process uses" in str(error) else "failed after work"
        print(json.dumps({**order, "result": result, "seconds": time.perf_counter() - start}), flush=True)


def run(orders: list[dict[str, Any]], portable: bool, surroundings: str) -> list[dict[str, Any]]:
    """Give orders to a process in these surroundings."""
    if not orders:
        return []
    command = [sys.executable, __file__, "--work", json.dumps(orders), *(["--portable"] if portable else [])]
    done = subprocess.run(command, env=os.environ | SURROUNDINGS[surroundings], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def plan(files: int, folder: str) -> list[dict[str, Any]]:
    """What is written and read where: every checkpoint, every pair of surroundings, three of four portable."""
    from zoo.checkpoints.store import names

    shipped = [name for name in names() if "photos" in name]
    places = list(SURROUNDINGS)
    return [
        {
            "checkpoint": shipped[number % len(shipped)],
            "number": number,
            "file": f"{folder}/{number}.zoo",
            "portable": number // len(shipped) % 4 != 3,
            "chained": bool(number // len(shipped) % 2),
            "writer": places[number // len(shipped) % len(places)],
            "reader": places[(number // len(shipped) // len(places) + number) % len(places)],
        }
        for number in range(files)
    ]


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=204)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--portable", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.portable)
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        orders = plan(options.files, folder)
        for write, role in ((True, "writer"), (False, "reader")):
            for portable in (True, False):
                for place in SURROUNDINGS:
                    chosen = [o | {"write": write} for o in orders if o["portable"] == portable and o[role] == place]
                    results += run(chosen, portable, place)
                    if options.output and results:
                        options.output.parent.mkdir(parents=True, exist_ok=True)
                        options.output.write_text(report(results))
    print(report(results))


def report(results: list[dict[str, Any]]) -> str:
    """The table."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for r in results:
        key = ("portable" if r["portable"] else "native", r["checkpoint"].split("-photos")[0])
        counts.setdefault(key, Counter())[r["result"]] += 1
    columns = ("right", "refused before work", "failed after work", "wrong")
    lines = [f"| files | family | tried | {' | '.join(columns)} |", "|---|---|---:|---:|---:|---:|---:|"]
    for (kind, family), found in sorted(counts.items(), reverse=True):
        lines.append(f"| {kind} | {family} | {sum(found.values())} | {' | '.join(str(found[c]) for c in columns)} |")
    where = f"{platform.machine()}, {_processor()}"
    return (
        "# Files between vector instructions\n\n`python scripts/campaigns/processors.py --files "
        f"{len(results)}`, on {where}. Surroundings: {', '.join(SURROUNDINGS)}.\n\n" + "\n".join(lines) + "\n"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    return f"{model} {'with' if 'avx512f' in text else 'without'} AVX-512"


if __name__ == "__main__":
    main()
