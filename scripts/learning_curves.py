"""Write the learning curves of runs of `zoo fit` as CSV and PNG, from their TensorBoard logs.

    python scripts/learning_curves.py runs/NAME... --output docs/curves

A row is a step; training is logged on single batches, validation on the whole split with the averaged weights. The PNG
shows both, training as means of neighbouring entries.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.files import atomic_path
from zoo.pictures import Curve, Plot, save_plot

COLUMNS = [
    f"{split}/{name}"
    for split in ("train", "val")
    for name in ("bits_per_dim", "bits_per_code", "rate", "distortion", "loss")
] + ["train/grad_norm", "train/skipped_total", "train/lr"]
SMOOTHING = 10  # entries of the log


def read(run: Path) -> dict[int, dict[str, float]]:
    """Step -> column -> value, for the columns that the run has logged."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    known = set(events.Tags()["scalars"])
    rows: dict[int, dict[str, float]] = {}
    for column in COLUMNS:
        for event in events.Scalars(column) if column in known else []:
            rows.setdefault(event.step, {})[column] = event.value
    return dict(sorted(rows.items()))


def write_csv(rows: dict[int, dict[str, float]], path: Path) -> None:
    """One line per step; an empty field was not logged at that step."""
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *columns])
        for step, row in rows.items():
            writer.writerow([step, *(f"{row[column]:.5g}" if column in row else "" for column in columns)])


def smoothed(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Means of `SMOOTHING` neighbouring points."""
    groups = [points[i : i + SMOOTHING] for i in range(0, len(points), SMOOTHING)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def draw(rows: dict[int, dict[str, float]], title: str, path: Path) -> None:
    """Bits/dim of training and validation over steps."""
    unit = "bits_per_dim" if any("val/bits_per_dim" in row for row in rows.values()) else "bits_per_code"
    train, val = (
        [(step, row[f"{split}/{unit}"]) for step, row in rows.items() if f"{split}/{unit}" in row]
        for split in ("train", "val")
    )
    curves = [Curve("train (single batches, averaged)", smoothed(train)), Curve("val (averaged weights)", val)]
    words = {"bits_per_dim": "bits/dim", "bits_per_code": "bits/code"}
    save_plot(path, Plot([curve for curve in curves if curve.points], title, "steps", words[unit]))


def main() -> None:
    """Read the arguments and write both files of every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--names", nargs="*", help="names of the files, one per run; default: the folders' names")
    parser.add_argument("--output", type=Path, default=Path("docs/curves"), help="folder to write to")
    arguments = parser.parse_args()
    for run, name in zip(arguments.runs, arguments.names or [run.name for run in arguments.runs], strict=True):
        rows = read(run)
        if not rows:
            parser.error(f"{run}: no TensorBoard log with scalars")
        write_csv(rows, arguments.output / f"{name}.csv")
        draw(rows, name, arguments.output / f"{name}.png")
        print(f"{arguments.output / name}.csv, .png: {len(rows)} entries")


if __name__ == "__main__":
    main()
