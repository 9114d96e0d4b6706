"""From official files to a checkpoint of ours: import, check that the weights fit the network, write."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import plugins
from zoo.checkpoints.specification import build
from zoo.checkpoints.store import Loaded, fit_weights, save, weights_digest
from zoo.errors import UserError, closest, reading
from zoo.files import sha256_file

SOURCES: dict[str, str] = {
    "vdvae": "zoo.checkpoints.vdvae",
    "efficient-vdvae": "zoo.checkpoints.efficient_vdvae",
    "vqvae2": "zoo.checkpoints.vqvae2",
    "pixelsnail": "zoo.checkpoints.pixelsnail",
    "vdm": "zoo.checkpoints.vdm",
    "ldm-autoencoder": "zoo.checkpoints.ldm_autoencoder",
    "latent-vae": "zoo.checkpoints.latent_vae",
    **plugins.modules(plugins.IMPORTERS),
}
"""Importers by the name `zoo import` knows; each module has `import_checkpoint(files, config, **options)`."""


def importer_of(source: str) -> Any:
    """The function that reads files of a source.

    Raises:
        UserError: there is no such source.
    """
    if source not in SOURCES:
        raise UserError(f"no source '{source}'; {closest(source, SOURCES)}")
    return importlib.import_module(SOURCES[source]).import_checkpoint


def convert(
    source: str, files: list[Path], output: Path, options: Mapping[str, Any], notes: Mapping[str, Any] | None = None
) -> Loaded:
    """Turn official files into one checkpoint that describes itself.

    Args:
        source: a key of `SOURCES`.
        files: the official files.
        output: file to write, ending in `.safetensors`.
        options: the importer's own arguments.
        notes: further notes for the checkpoint.

    Returns:
        The checkpoint that was written.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"{output}: name a file that ends in .safetensors")
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise UserError(f"{missing[0]}: no such file; give the official checkpoint")
    importer = importer_of(source)
    with reading(files[0], "it may be damaged, or of another kind; download it again"):
        spec, weights = importer(files, **options)
    network = build(spec)
    fit_weights(network, weights, str(files[0]))
    meta = {
        "run": output.stem,
        "source": source,
        "files": {file.name: sha256_file(file) for file in files if file.is_file()},
        "options": {name: str(value) for name, value in options.items() if value is not None},
        **(notes or {}),
    }
    save(output, spec, network, meta)
    return Loaded(network.eval(), spec, meta, weights_digest(network.state_dict()), output)
