"""`zoo bench --suite demo`: everything the zoo does, on bundled photographs, in a few minutes on two cores."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benchmarks import records as store
from zoo.benchmarks.records import Line, Measurement, Record
from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.progress import counting

if TYPE_CHECKING:
    from zoo.checkpoints.store import Loaded

DATASET = "photos"
MARKER = ".zoo-demo"  # lies in every folder that a demo has made
BATCH = 32
STEPS = 50  # of models whose number of steps is a choice: for samples and files
PATIENCE = 12.0  # seconds per checkpoint after which no more tiles are coded


@dataclass(frozen=True)
class Folder:
    """Where the demo writes."""

    root: Path

    @property
    def records(self) -> Path:
        """JSON lines, one file per checkpoint."""
        return self.root / "records"

    @property
    def samples(self) -> Path:
        """Grids of drawn images."""
        return self.root / "samples"

    @property
    def leaderboard(self) -> Path:
        """The tables in markdown."""
        return self.root / "leaderboard.md"


def demo(*, output: str = "demo", train: bool = False, tiles: int = 64, samples: int = 16, only: str = "") -> None:
    """Price, code and sample with every checkpoint that ships; compare with classical codecs; show a short fit.

    Args:
        output: folder to write to.
        train: train all of configs/demo again first (hours) and use those checkpoints.
        tiles: 32x32 tiles to send through real files per checkpoint; 0 = none.
        samples: images to draw per checkpoint; 0 = none.
        only: use only checkpoints whose name contains this, and run nothing else.
    """
    from rich.console import Console

    started = time.perf_counter()
    folder, console = Folder(Path(output)), Console()
    _claim(folder.root)
    sources = _sources(folder, train, only)
    lines: list[Line] = []
    for name, source in sources:
        console.print(name)
        lines += _checkpoint(name, source, folder, tiles, samples)
    if not only:
        lines += _classical(folder)
    _tables(lines, folder, console)
    if not only:
        _short_fit(folder, console)
    _where(folder, console, time.perf_counter() - started)


def _claim(root: Path) -> None:
    """Make the folder, or take one that a demo has made: what is replaced there is never anybody else's.

    Raises:
        UserError: the folder holds other files.
    """
    marker = root / MARKER
    if root.is_dir() and any(root.iterdir()) and not marker.is_file():
        raise UserError(f"--output {root}: holds files that no demo made; choose a new or empty folder")
    root.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _sources(folder: Folder, train: bool, only: str) -> list[tuple[str, str]]:
    """Names and checkpoints to use: those that ship, or freshly trained ones."""
    from zoo.checkpoints.store import names

    if train:
        return [
            (path.stem.replace("_", "-"), str(_fit(path, folder.root / "runs" / path.stem, [])))
            for path in sorted(_configs().glob("*.yaml"))
            if only in path.stem.replace("_", "-")
        ]
    found = [(name, name) for name in names() if only in name]
    if not found:
        raise UserError(
            f"no checkpoint{f' with {only!r} in its name' if only else ''} ships with this installation; "
            "`zoo bench --suite demo --train` trains them"
        )
    return found


def _configs() -> Path:
    """The folder of the demo's configurations."""
    from zoo.checkpoints.configurations import configurations_folder

    return configurations_folder() / "demo"


def _checkpoint(name: str, source: str, folder: Folder, tiles: int, samples: int) -> Iterator[Line]:
    """Price the test split, code a part of it, draw samples; every result is written as soon as it is there."""
    from zoo.benchmarks.measures.evaluator import Settings, evaluate
    from zoo.benchmarks.measures.identity import describe
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(source)
    network: Any = loaded.network
    loader = open_split(DATASET, "test", network.image_shape, loaded.data, batch_size=BATCH)
    with counting(f"{name}: pricing", total=loader.plan.num_samples) as step:
        record = evaluate(network, loader, Settings(), progress=step, **{**describe(loaded), "config": name})
    if tiles and record.priced == "pixels":
        with counting(f"{name}: real files", total=tiles) as step:
            record = _coded(record, loaded, tiles, step)
    target = folder.records / f"{name}.jsonl"
    target.unlink(missing_ok=True)
    store.append(target, record)
    if samples and record.priced == "pixels":
        with counting(f"{name}: samples", total=samples) as step:
            _samples(network, folder.samples / f"{name}.png", samples)
            step(samples)
    yield record


def _coded(record: Record, loaded: Loaded, tiles: int, step: Callable[[int], None]) -> Record:
    """The record with what real files of the first tiles took; fewer tiles if the model is slow."""
    from zoo.benchmarks.measures.coding import code_tiles
    from zoo.data import open_split

    done = 0
    loader = open_split(DATASET, "test", loaded.model.image_shape, loaded.data)
    for count in sorted({min(16, tiles), tiles}):
        started = time.perf_counter()
        try:
            coded = code_tiles(loaded, loader.first(count)[0], STEPS)
        except UserError as error:
            return dataclasses.replace(record, note=f"{record.config}: not coded, {error}")
        record = dataclasses.replace(record, **coded)
        step(count - done)
        done = count
        if (time.perf_counter() - started) * tiles / count > PATIENCE:
            break
    return record


def _samples(network: Any, path: Path, count: int) -> None:
    """Write a grid of drawn images."""
    import torch
    from PIL import Image

    from zoo.benchmarks.measures.baselines import montage

    if network.steps is not None:
        network.steps = STEPS
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        images = network.sample(count).permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    with atomic_path(path) as temporary:
        Image.fromarray(montage(images).squeeze()).save(temporary, format="PNG")


def _classical(folder: Folder) -> list[Measurement]:
    """What PNG, WebP and, if installed, JPEG XL need for the test split at both depths."""
    from PIL import Image

    from zoo.benchmarks.measures import baselines
    from zoo.data import open_split

    with counting("classical codecs", total=2 * len(baselines.available())) as step:
        found = list(baselines.measure_photos(progress=lambda _: step(1)))
    target = folder.records / "classical.jsonl"
    target.unlink(missing_ok=True)
    for line in found:
        store.append(target, line)
    tiles = open_split(DATASET, "test", (3, 32, 32)).first(256)[0][::16].permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    with atomic_path(folder.samples / "photographs.png") as path:
        Image.fromarray(baselines.montage(tiles)).save(path, format="PNG")
    return found


def _tables(lines: Sequence[Line], folder: Folder, console: Any) -> None:
    """Print the demo's table, and write it with the published numbers as a leaderboard."""
    from zoo.benchmarks import render
    from zoo.benchmarks.records import references
    from zoo.benchmarks.tables import demo as demo_table
    from zoo.benchmarks.tables import nll

    known = references.load()
    table = demo_table.build(lines, known)
    console.print()
    render.print_rich(table)
    text = render.render(table, "markdown") + "\n" + render.render(nll.build(lines, known), "markdown")
    with atomic_path(folder.leaderboard) as path:
        path.write_text(text, encoding="utf-8")


def _short_fit(folder: Folder, console: Any) -> None:
    """Train for a minute with the real command, from scratch, so that its logs can be looked at."""
    config = _configs() / "vdvae_photos_8bit.yaml"
    if not config.is_file():
        console.print(f"{config} is missing: no training shown")
        return
    console.print("\n[bold]A short training run[/], from scratch, to show `zoo fit` at work")
    short = ["--trainer.max_steps=40", "--trainer.val_check_interval=20", "--trainer.log_every_n_steps=5"]
    short += [
        "--model.warmup_steps=10",
        "--model.ema_decay=0.9",
        "--model.grid_every=20",
        "--trainer.limit_val_batches=2",
    ]
    _fit(config, folder.root / "fit", short)


def _fit(config: Path, run: Path, options: Sequence[str]) -> Path:
    """Run `zoo fit` as a user would and return the checkpoint it writes.

    Raises:
        UserError: it failed; its own message stands above.
    """
    import shutil

    if options:
        shutil.rmtree(run, ignore_errors=True)  # a demonstration; real runs are continued, never removed
    resume = ["--ckpt_path", "last"] if (run / "last.ckpt").exists() else []
    command = [sys.executable, "-m", "zoo", "fit", "--config", str(config), "--run_dir", str(run), *resume, *options]
    print("$ zoo " + " ".join(command[3:]), flush=True)
    if subprocess.run(command, check=False, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}).returncode != 0:
        raise UserError(f"zoo fit --config {config} failed; its message stands above")
    return run / "last.safetensors"


def _where(folder: Folder, console: Any, seconds: float) -> None:
    """List what was written."""
    console.print(f"\n[bold]Done in {seconds / 60:.1f} minutes.[/] Written:")
    for path, what in (
        (folder.leaderboard, "the table above, and published beside measured numbers"),
        (folder.records, "records, one JSON line a number"),
        (folder.samples, "samples of every checkpoint; photographs.png for comparison"),
        (folder.root / "fit", "the training run: `tensorboard --logdir` shows its curves and grids"),
        (folder.root / "runs", "training runs of --train"),
    ):
        if path.exists():
            console.print(f"  {path}  {what}", soft_wrap=True)
