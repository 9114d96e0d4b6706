"""`zoo data`: list, prepare, verify and show data sets. Imports no torch."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from zoo.data.datasets import DATASETS
from zoo.data.images import FILTERS, Filter
from zoo.data.locate import BUNDLED, data_home, locate
from zoo.errors import UserError, closest

Report = Callable[[str, int, int], None]
_KINDS = {"int": "a whole number", "Path": "a path", "Filter": f"one of {', '.join(FILTERS)}"}


def run(argv: list[str]) -> int:
    """Run `zoo data` with these arguments."""
    commands: dict[str, Callable[..., None]] = {
        "list": list_datasets,
        "prepare": prepare,
        "verify": verify,
        "show": show,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(commands))
        return 0
    if argv[0] not in commands:
        raise UserError(f"zoo data: no command '{argv[0]}'; {closest(argv[0], commands)}")
    commands[argv[0]](**_parse(argv[0], commands[argv[0]], argv[1:]))
    return 0


def list_datasets(format: Literal["rich", "markdown", "json"] = "rich") -> None:
    """Show every known data set, its splits, and what is prepared.

    Args:
        format: form of the list; json has all that is known.
    """
    from zoo.data.catalogue import as_json, as_markdown, print_rich

    if format == "json":
        print(as_json())
    elif format == "markdown":
        print(as_markdown())
    else:
        print_rich()


def prepare(
    name: str,
    source: Path | None = None,
    output: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    no_verify: bool = False,
    download: bool = False,
    resolution: int | None = None,
    filter: Filter | None = None,
    no_crop: bool = False,
    split_file: Path | None = None,
) -> None:
    """Pack a source into one file that `--data.dataset NAME` then finds.

    Args:
        name: data set, see `zoo data list`; `folder` for anything else.
        source: official archive, the folder with the archives, or the folder they unpack to.
        output: file to write; default: NAME.h5 in $ZOO_DATA.
        split: split rule, see `zoo data list --format json`; default: the first.
        limit: only the first so many images of each part, for a trial.
        no_verify: skip published digests and counts.
        download: fetch the source first, where its host is open.
        resolution: side of the images to make from a `folder`.
        filter: resampling filter for resizing.
        no_crop: refuse pictures that are not square instead of cutting their centre.
        split_file: for a `folder`: text file with lines of NAME and split.
    """
    from zoo.data.download import download as fetch
    from zoo.data.prepare import Preparation, spec_of
    from zoo.data.prepare import prepare as pack

    spec = spec_of(name)
    if download and source is not None:
        raise UserError("zoo data prepare: --download and --source exclude each other; give one of them")
    if not download and source is None:
        how = "--source PATH, or --download" if spec.downloadable else f"--source PATH (where to get it: {spec.where})"
        raise UserError(f"zoo data prepare {name}: no source; give {how}")
    with _progress() as report:
        if download:
            source = fetch(spec, data_home() / "downloads" / name, not no_verify, report)
        assert source is not None
        ask = Preparation(
            name, source, output, split, limit, not no_verify, resolution, filter, not no_crop, split_file
        )  # fmt: skip
        info = pack(ask, report)
    print(_facts(info))
    for part in spec.counts.keys() - json.loads(info.attributes["parts"]).keys() - {"all"}:
        print(f"  note: the source lacks its part '{part}' ({spec.counts[part]:,} images)")


def verify(name: str) -> None:
    """Re-read a prepared file and compare every byte and pixel with its digests.

    Args:
        name: data set, or path of a prepared file.
    """
    from zoo.data.verify import verify as check

    with _progress() as report:
        info = check(locate(name), report)
    print(f"{info.path}: every byte and every pixel as written")
    print(_facts(info))


def show(
    name: str, output: Path | None = None, split: Literal["train", "val", "test"] | None = None, images: int = 64
) -> None:
    """Print shape, provenance, class balance, mean and variance; write a contact sheet.

    Args:
        name: data set, or path of a prepared file.
        output: picture to write (.png).
        split: split to look at; default: all, and the first on the sheet.
        images: images on the sheet.
    """
    from zoo.data.packed import describe
    from zoo.data.verify import contact_sheet, statistics

    info = describe(locate(name))
    if images < 1:
        raise UserError(f"--images {images}: expected a whole number of at least 1")
    print(_facts(info))
    for chosen in [split] if split else list(info.splits):
        info.split(chosen)
        with _progress() as report:
            found = statistics(info.path, chosen, report)
        mean, deviation = (" ".join(f"{v:.2f}" for v in values) for values in (found.mean, found.deviation))
        print(f"{chosen}: mean {mean}, standard deviation {deviation} (0 to 255, per channel)")
        if found.classes:
            least, most = min(found.classes.values()), max(found.classes.values())
            print(f"{chosen}: {len(found.classes)} classes of {least:,} to {most:,} images")
            if len(found.classes) <= 20:
                print("  " + ", ".join(f"{label}: {count:,}" for label, count in found.classes.items()))
    if output is not None:
        contact_sheet(info.path, split or next(iter(info.splits)), output, images)
        print(f"wrote {output}")


def _facts(info: Any) -> str:
    """Lines on a prepared file."""
    lines = [f"{info.path}: {info.name}, variant {info.variant}, {info.encoding}"]
    for name, split in info.splits.items():
        count, height, width, channels = split.shape
        labels = ", labelled" if split.labelled else ""
        lines.append(f"  {name:5} {count:>9,} images {height}x{width}x{channels}{labels}, sha256 {split.sha256[:16]}")
    for key, title in (("split_rule", "splits"), ("filter", "filter"), ("licence", "licence")):
        if key in info.attributes:
            lines.append(f"  {title}: {info.attributes[key]}")
    return "\n".join(lines)


@contextmanager
def _progress() -> Iterator[Report]:
    """A progress bar on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


def _usage(commands: dict[str, Callable[..., None]]) -> str:
    rows = (f"  {name:8} {(function.__doc__ or '').splitlines()[0]}" for name, function in commands.items())
    return (
        "usage: zoo data COMMAND [ARGUMENTS]\n\ncommands:\n" + "\n".join(rows) + "\n\n"
        f"`zoo data COMMAND --help` shows the arguments. Prepared files live in {data_home()} ($ZOO_DATA);\n"
        f"`photos` comes with the package ({BUNDLED.name}), all others are made by `prepare`: {', '.join(DATASETS)}."
    )


def _parse(name: str, function: Callable[..., None], argv: list[str]) -> dict[str, Any]:
    """Arguments of a command as its signature asks for them.

    Raises:
        UserError: an unknown option or a value of the wrong kind.
    """
    import argparse
    import inspect

    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=f"zoo data {name}", description=inspect.getdoc(function).split("\n\n")[0], exit_on_error=False
    )  # type: ignore[union-attr]
    parameters = inspect.signature(function).parameters
    flags = {key for key, value in parameters.items() if value.default is False}
    positional = {key for key, value in parameters.items() if value.default is value.empty}
    parser.add_function_arguments(function, as_positional=True, skip=flags, fail_untyped=False)
    helps = _argument_docs(function)
    for flag in sorted(flags):
        parser.add_argument(f"--{flag.replace('_', '-')}", action="store_true", help=helps.get(flag))
    spelt = [_spelling(word, parameters) for word in argv]
    try:
        values = parser.parse_args(spelt).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        wrong = re.search(r'Parser key "(\w+)":.*Given value: (.*)$', text)
        if wrong:
            key, value = wrong.groups()
            kind = str(parameters[key].annotation).removesuffix(" | None")
            text = f"--{key.replace('_', '-')} {value}: expected {_KINDS.get(kind, kind)}"
        elif positional and "required" in text:
            text = f"no {' and no '.join(sorted(positional)).upper()} given; `zoo data list` shows what there is"
        raise UserError(f"zoo data {name}: {text}; see `zoo data {name} --help`") from error
    return values


def _spelling(word: str, parameters: Any) -> str:
    """Options are written with dashes; those that take a value are underscored inside.

    Raises:
        UserError: no such option.
    """
    if not word.startswith("--"):
        return word
    option, equals, value = word[2:].partition("=")
    key = option.replace("-", "_")
    if key not in parameters and key != "help":
        raise UserError(f"--{option}: no such option; {closest(option, [p.replace('_', '-') for p in parameters])}")
    is_flag = key in parameters and parameters[key].default is False
    return f"--{option.replace('_', '-') if is_flag else key}{equals}{value}"


def _argument_docs(function: Callable[..., None]) -> dict[str, str]:
    """Sentences of the Args section by argument."""
    lines = (function.__doc__ or "").partition("Args:")[2].splitlines()
    pairs = (line.strip().partition(": ") for line in lines)
    return {key: text for key, _, text in pairs if text}
