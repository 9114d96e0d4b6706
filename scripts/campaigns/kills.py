"""Random signals to a training in stages on two processes: continued each time, it ends as one sitting would.

    python scripts/campaigns/kills.py --kills 20 --folder /tmp/kills

Each round starts `zoo fit`, waits a random time, sends SIGTERM, SIGINT or SIGKILL to the first process, and waits until
every process of the run has gone. At the end the run is completed and compared with an uninterrupted one, stage by
stage and bit by bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import yaml

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
STATUS = {signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}, signal.SIGKILL: {-9}}
"""Right statuses; the negative ones belong to signals that come before Python listens."""
PATIENCE = 60.0  # seconds after which a process counts as hung


def configuration(folder: Path, steps: int) -> Path:
    """Three stages: a first stage, its codes, a prior over them."""
    settings = {"lr": 1e-3, "grid_every": 0, "warmup_steps": 0, "ema_decay": 0.9}
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_steps": steps, "limit_val_batches": 1}
    trainer |= {"val_check_interval": 7, "check_val_every_n_epoch": None, "log_every_n_steps": 1}
    images = {"dataset": "photos", "crop": 16, "batch_size": 4, "limit": 64, "flip": True}
    first = {"image_shape": [3, 16, 16], "strides": [2, 2], "channels": 8, "num_codes": 8, "code_dim": 4}
    trunk = {"channels": 16, "residual_channels": 8, "blocks": 1, "layers_per_block": 1, "heads": 2, "kernel_size": 3}
    prior = {"name": "top", "grids": [[4, 4]], "codes": [8], "trunk": trunk}
    codes = {"class_path": "zoo.data.codes.CodeDataModule", "init_args": {"path": "stage:codes", "batch_size": 4}}
    stages = [
        {
            "name": "autoencoder",
            "model": {
                "network": {"class_path": "QuantisedAutoencoder", "init_args": first},
                **settings,
                "ema_decay": 0,
            },
            "data": images,
            "trainer": trainer,
        },
        {
            "name": "codes",
            "call": "zoo.checkpoints.codes.extract",
            "arguments": {"checkpoint": "stage:autoencoder", "data": images, "folder": str(folder / "codes")},
        },
        {
            "name": "prior",
            "model": {"network": {"class_path": "CodePrior", "init_args": prior}, **settings},
            "data": codes,
            "trainer": trainer,
        },
    ]
    path = folder / "stages.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def start(config: Path, run: Path, log: Any) -> subprocess.Popen[bytes]:
    """Start the training in a working folder of its own, by which all its processes are found."""
    run.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "zoo", "fit", "--config", str(config), "--run_dir", str(run / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    words = [*command, "--checkpoint_every", "5"]
    # A campaign in the background of a shell would hand on that Ctrl-C is ignored.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(words, cwd=run, env=environment, stdout=log, stderr=log, preexec_fn=heard)


def processes_in(folder: Path) -> list[int]:
    """Living processes whose working folder this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "cwd") == str(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def all_gone(folder: Path) -> bool:
    """Wait for the end of all processes; what still lives then is hung and is ended."""
    end = time.monotonic() + PATIENCE
    while processes_in(folder) and time.monotonic() < end:
        time.sleep(0.1)
    hung = processes_in(folder)
    for pid in hung:
        os.kill(pid, signal.SIGKILL)
    return not hung


def same(one: Any, other: Any) -> bool:
    """Equality to the last bit, at any depth."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300, help="of each fit")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds before a signal, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    ask = parser.parse_args()
    folder = ask.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config, draw, counts = configuration(folder, ask.steps), random.Random(ask.seed), Counter[str]()
    with open(folder / "log.txt", "wb") as log:
        assert start(config, folder / "whole", log).wait() == 0, f"see {folder / 'log.txt'}"
        while counts["tried"] < ask.kills:
            process = start(config, folder / "killed", log)
            try:
                status = process.wait(draw.uniform(3.0, ask.longest))
                print(f"ended by itself with status {status} after {counts['tried']} signals", flush=True)
                break
            except subprocess.TimeoutExpired:
                pass
            signum = draw.choice(SIGNALS)
            process.send_signal(signum)
            counts["tried"] += 1
            ended = all_gone(folder / "killed")
            status = process.wait()
            right = ended and status in STATUS[signum]
            counts["right" if right else "hung" if not ended else f"status {status} after {signum.name}"] += 1
            print(f"{counts['tried']}: {signum.name}, status {status}", flush=True)
        final = start(config, folder / "killed", log).wait()
    for stage in ("autoencoder", "prior"):
        one, other = (
            torch.load(folder / run / "run" / stage / "last.ckpt", weights_only=True) for run in ("whole", "killed")
        )
        equal = all(same(one[key], other[key]) for key in ("state_dict", "optimizer_states", "global_step"))
        counts[f"{stage} {'equal' if equal else 'WRONG'}"] += 1
    print(f"final status {final}; " + ", ".join(f"{name}: {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
