"""Put the export of a run among the checkpoints that ship with the package, at half precision.

    python scripts/ship.py runs/vdvae_photos_8bit vdvae-photos-8bit

`--set NAME=VALUE` changes an argument of the network that needs no training, and notes it in the checkpoint. The
weights are rounded to float16 in the file and used as float32, so every record made from the shipped checkpoint is of
the rounded weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoints import read, save
from zoo.checkpoints.store import SHIPPED

LARGEST = 2_000_000  # bytes


def main() -> None:
    """Read the arguments and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of `zoo fit`, or its last.safetensors")
    parser.add_argument("name", help="name to ship under")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument, value as JSON")
    parser.add_argument(
        "--note", action="append", default=[], metavar="NAME=VALUE", help="put into the checkpoint's notes"
    )
    arguments = parser.parse_args()
    contents = read(arguments.run)
    contents.meta.update(_values(arguments.note))
    changed = _values(arguments.set)
    contents.spec["init_args"] |= changed
    contents.meta.pop("assembled_from", None)
    contents.meta["run"] = arguments.name
    if changed:
        contents.meta["set_after_training"] = changed
    path = save(
        SHIPPED / f"{arguments.name}.safetensors", contents.spec, contents.weights, contents.meta, torch.float16
    )
    size = path.stat().st_size
    if size > LARGEST:
        path.unlink()
        parser.error(f"{arguments.name}: {size:,} bytes, more than {LARGEST:,}")
    print(f"{path}: {size:,} bytes")


def _values(words: list[str]) -> dict[str, Any]:
    """NAME=VALUE words, the values read as JSON."""
    return {name: json.loads(value) for name, _, value in (word.partition("=") for word in words)}


if __name__ == "__main__":
    main()
