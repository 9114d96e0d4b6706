"""`zoo data`: list, prepare, verify and show data sets. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from zoo.data.images import Filter
from zoo.data.locate import data_home, locate
from zoo.errors import UserError
from zoo.progress import reporting


def list_datasets(*, format: Literal["rich", "markdown", "json"] = "rich") -> None:
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
    *,
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
    with reporting() as report:
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
    for note in json.loads(info.attributes.get("notes", "[]")):
        print(f"  note: {note}")


def verify(name: str) -> None:
    """Re-read a prepared file and compare every byte and pixel with its digests.

    Args:
        name: data set, or path of a prepared file.
    """
    from zoo.data.verify import verify as check

    with reporting() as report:
        info = check(locate(name), report)
    print(f"{info.path}: every byte and every pixel as written")
    print(_facts(info))


def show(
    name: str, *, output: Path | None = None, split: Literal["train", "val", "test"] | None = None, images: int = 64
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
        with reporting() as report:
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
