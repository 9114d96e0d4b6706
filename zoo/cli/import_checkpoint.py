"""`zoo import`: turn an official checkpoint into ours."""

import argparse
import importlib
import inspect
from pathlib import Path
from typing import Any

from zoo.errors import UserError, closest


def run(argv: list[str]) -> int:
    """Run `zoo import SOURCE FILE... --output CKPT`; the importer's own arguments are further options."""
    from zoo.checkpoints import SOURCES

    if not argv or argv[0] in ("-h", "--help"):
        print(
            "usage: zoo import SOURCE FILE... --output CKPT.safetensors [options of the source]\n\n"
            "Turn official weights into a checkpoint that describes itself.\n\n"
            f"sources: {', '.join(SOURCES)}\n`zoo import SOURCE --help` shows the options of one."
        )
        return 0
    source, rest = argv[0], argv[1:]
    if source not in SOURCES:
        raise UserError(f"zoo import: no source '{source}'; {closest(source, SOURCES)}")
    importer = importlib.import_module(SOURCES[source]).import_checkpoint
    values = _parse(importer, source, rest)
    files, output = [Path(file) for file in values.pop("files")], Path(values.pop("output"))
    if output.suffix != ".safetensors":
        raise UserError(f"--output {output}: name a file that ends in .safetensors")
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise UserError(f"{missing[0]}: no such file; give the official checkpoint")
    print(convert(importer, source, files, output, values))
    return 0


def convert(importer: Any, source: str, files: list[Path], output: Path, options: dict[str, Any]) -> str:
    """Import, check that the weights fit the network, write; returns a line that says what was made."""
    from zoo.checkpoints import build, fit_weights, save, weights_digest
    from zoo.files import sha256_file
    from zoo.likelihood import LikelihoodModel

    spec, weights = importer(files, **options)
    network = build(spec)
    fit_weights(network, weights, str(files[0]))
    meta = {
        "source": source,
        "files": {file.name: sha256_file(file) for file in files if file.is_file()},
        "options": {name: str(value) for name, value in options.items() if value is not None},
    }
    save(output, spec, network, meta)
    count = sum(parameter.numel() for parameter in network.parameters())
    depth = f", {network.bits} bits" if isinstance(network, LikelihoodModel) else ""
    digest = weights_digest(network.state_dict())[:12]
    return f"{output}: {type(network).__name__}, {count:,} parameters{depth}, weights {digest}"


def _parse(importer: Any, source: str, argv: list[str]) -> dict[str, Any]:
    """Files, output and the importer's own options."""
    import docstring_parser
    import jsonargparse

    from zoo.cli.functions import spelled_out
    from zoo.cli.parsing import explain, option_names

    parsed = docstring_parser.parse(inspect.getdoc(importer) or "")
    parser = jsonargparse.ArgumentParser(
        prog=f"zoo import {source}", description=parsed.short_description, exit_on_error=False
    )
    described = {parameter.arg_name: parameter.description for parameter in parsed.params}
    parser.add_argument("files", type=str, nargs="+", help=described.get("files"))
    parser.add_argument("--output", type=str, required=True, help="file to write, ending in .safetensors")
    parser.add_function_arguments(importer, skip={"files"}, fail_untyped=False)
    try:
        return parser.parse_args(spelled_out(argv, inspect.signature(importer).parameters)).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(explain(error, f"import {source}", option_names(parser))) from error
