"""`zoo import`: turn an official checkpoint into ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.reader import call
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.checkpoints import Loaded


def import_checkpoint(source: str = "", *rest: str) -> int:
    """Turn official weights into a checkpoint that describes itself.

    Args:
        source: kind of the official checkpoint.
        rest: files, output and the importer's own options.
    """
    from zoo.checkpoints.convert import SOURCES, importer_of

    if source:
        return call(import_files, [*rest, f"--source={source}"], f"import {source}", importer_of(source), {"files"})
    if "--help" not in rest:
        raise UserError(f"zoo import: name a source: {', '.join(SOURCES)}")
    print(
        "usage: zoo import SOURCE FILE... --output CKPT.safetensors [options of the source]\n\n"
        "Turn official weights into a checkpoint that describes itself.\n\n"
        f"sources: {', '.join(SOURCES)}\n`zoo import SOURCE --help` shows the options of one."
    )
    return 0


def import_files(files: list[str], *, output: str, source: str, **options: Any) -> None:
    """Import, check that the weights fit the network, write.

    Args:
        files: the official checkpoint.
        output: file to write, ending in .safetensors.
        source: kind of the official checkpoint.
        options: arguments of the importer.
    """
    from zoo.checkpoints.convert import convert

    if not files:
        raise UserError(f"zoo import {source}: name the official checkpoint's file")
    print(describe(convert(source, [Path(file) for file in files], Path(output), options)))


def describe(loaded: Loaded) -> str:
    """What was made, in one line."""
    from zoo.likelihood import LikelihoodModel

    network = loaded.network
    count = sum(parameter.numel() for parameter in network.parameters())
    depth = f", {network.bits} bits" if isinstance(network, LikelihoodModel) else ""
    return f"{loaded.path}: {type(network).__name__}, {count:,} parameters{depth}, weights {loaded.digest[:12]}"
