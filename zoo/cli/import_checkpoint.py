"""`zoo import`: turn an official checkpoint into ours."""

import importlib
from pathlib import Path
from typing import Any

from zoo.cli.reader import call
from zoo.errors import UserError, closest


def import_checkpoint(source: str = "", *rest: str) -> int:
    """Turn official weights into a checkpoint that describes itself.

    Args:
        source: kind of the official checkpoint.
        rest: files, output and the importer's own options.
    """
    from zoo.checkpoints import SOURCES

    if source:
        if source not in SOURCES:
            raise UserError(f"zoo import: no source '{source}'; {closest(source, SOURCES)}")
        importer = importlib.import_module(SOURCES[source]).import_checkpoint
        return call(convert, [*rest, f"--source={source}"], f"import {source}", importer, {"files"})
    if "--help" not in rest:
        raise UserError(f"zoo import: name a source: {', '.join(SOURCES)}")
    print(
        "usage: zoo import SOURCE FILE... --output CKPT.safetensors [options of the source]\n\n"
        "Turn official weights into a checkpoint that describes itself.\n\n"
        f"sources: {', '.join(SOURCES)}\n`zoo import SOURCE --help` shows the options of one."
    )
    return 0


def convert(files: list[str], *, output: str, source: str, **options: Any) -> None:
    """Import, check that the weights fit the network, write.

    Args:
        files: the official checkpoint.
        output: file to write, ending in .safetensors.
        source: kind of the official checkpoint.
        options: arguments of the importer.
    """
    from zoo.checkpoints import SOURCES, build, fit_weights, save, weights_digest
    from zoo.files import sha256_file
    from zoo.likelihood import LikelihoodModel

    paths = [Path(file) for file in files]
    if not paths:
        raise UserError(f"zoo import {source}: name the official checkpoint's file")
    if Path(output).suffix != ".safetensors":
        raise UserError(f"--output {output}: name a file that ends in .safetensors")
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]}: no such file; give the official checkpoint")
    spec, weights = importlib.import_module(SOURCES[source]).import_checkpoint(paths, **options)
    network = build(spec)
    fit_weights(network, weights, str(paths[0]))
    meta = {
        "source": source,
        "files": {path.name: sha256_file(path) for path in paths if path.is_file()},
        "options": {name: str(value) for name, value in options.items() if value is not None},
    }
    save(output, spec, network, meta)
    count = sum(parameter.numel() for parameter in network.parameters())
    depth = f", {network.bits} bits" if isinstance(network, LikelihoodModel) else ""
    digest = weights_digest(network.state_dict())[:12]
    print(f"{output}: {type(network).__name__}, {count:,} parameters{depth}, weights {digest}")
