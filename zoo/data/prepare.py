"""`prepare`: any official archive or plain folder to one sealed HDF5 file, streamed."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.datasets import DATASETS, DatasetSpec
from zoo.data.images import FILTERS, Filter
from zoo.data.locate import prepared_path
from zoo.data.packed import FileInfo, describe
from zoo.data.readers import Item, Part, ReadOptions, Source, open_source
from zoo.data.sources import digest_of, published_digest
from zoo.data.splits import SPLIT_NAMES, SplitRule
from zoo.data.writer import PackedWriter, new_file
from zoo.errors import UserError, closest, reading

Report = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True)
class Preparation:
    """What the user asked for.

    Args:
        name: data set.
        source: archive or folder.
        output: file to write; None = in the data folder.
        rule: split rule; None = the data set's first.
        limit: take only the first images of each part (a trial; the variant is renamed, so numbers stay apart).
        verify: check digests and counts of official sources.
        resolution: side of the images to make (`folder` only, else the data set's own).
        filter: how to resize (`folder` and faces).
        crop: cut the centre square of pictures that are not square.
        split_file: lines of `NAME SPLIT` (`folder` only).
    """

    name: str
    source: Path
    output: Path | None = None
    rule: str | None = None
    limit: int | None = None
    verify: bool = True
    resolution: int | None = None
    filter: Filter | None = None
    crop: bool = True
    split_file: Path | None = None


def spec_of(name: str) -> DatasetSpec:
    """The table's entry.

    Raises:
        UserError: unknown name.
    """
    if name not in DATASETS:
        raise UserError(f"dataset '{name}': unknown name; {closest(name, DATASETS)}")
    return DATASETS[name]


def prepare(ask: Preparation, report: Report = lambda what, done, total: None) -> FileInfo:
    """Make a prepared file.

    Args:
        ask: what to make of what.
        report: called with progress.

    Returns:
        What the new file says of itself.

    Raises:
        UserError: missing, damaged or wrong source; nothing is left under the final name.
    """
    spec = spec_of(ask.name)
    rule_name, rule = _rule(ask, spec)
    source = open_source(spec.reader, ask.source, _options(ask, spec))
    if spec.shape is not None and source.shape != spec.shape:
        raise UserError(
            f"{ask.source}: images of shape {source.shape}, {ask.name} has {spec.shape}; is it another set?"
        )
    verified = ask.verify and ask.limit is None
    if verified:
        check_counts(ask.name, spec, source)
    output = ask.output or prepared_path(ask.name, ask.rule)
    with new_file(output) as temporary:  # before the work: a place that cannot be written is found now
        digests = _digests(spec, source, ask.verify, report)
        attributes = {
            "name": ask.name if ask.name != "folder" else output.stem,
            "rule": rule_name,
            "split_rule": rule.text,
            "filter": spec.filter if spec.reader != "folder" else _folder_filter(ask),
            "licence": spec.licence,
            "sources": digests,
            "verified": verified,
            "parts": {part.name: part.count for part in source.parts},
            "classes": spec.classes,
        }
        _write(temporary, spec, source, rule, ask, attributes, report)
    return describe(output)


def _options(ask: Preparation, spec: DatasetSpec) -> ReadOptions:
    for flag, value in (("resolution", ask.resolution), ("split-file", ask.split_file)):
        if value is not None and spec.reader != "folder":
            raise UserError(f"--{flag} is for `zoo data prepare folder`; {ask.name} has its own")
    if ask.limit is not None and ask.limit < 1:
        raise UserError(f"--limit {ask.limit}: expected a whole number of at least 1")
    if ask.resolution is not None and ask.resolution < 1:
        raise UserError(f"--resolution {ask.resolution}: expected a whole number of at least 1")
    named: Any = next((name for name in FILTERS if name in spec.filter.split(" (")[0]), "bilinear")
    default: Filter = named
    return ReadOptions(spec.shape, ask.resolution, ask.crop, ask.filter or default, ask.split_file, spec.options)


def _folder_filter(ask: Preparation) -> str:
    if ask.resolution is None:
        return "none"
    return f"{ask.filter or 'bilinear'} (PIL, anti-aliased) to {ask.resolution}, centre crop"


def _rule(ask: Preparation, spec: DatasetSpec) -> tuple[str, SplitRule]:
    name = ask.rule or next(iter(spec.rules))
    if name not in spec.rules:
        raise UserError(f"--split {name}: no such split rule of {ask.name}; {closest(name, spec.rules)}")
    return name, spec.rules[name]


def check_counts(name: str, spec: DatasetSpec, source: Source) -> None:
    """Compare the images of each part with the table's; parts may be missing, not short.

    Raises:
        UserError: a part has another number of images.
    """
    for part in source.parts:
        expected = spec.counts.get(part.name)
        if expected is None or part.count == expected:
            continue
        hint = "get the source again, or pass --no-verify"
        twin = {"small": "box", "box": "small"}.get(name.rpartition("-")[2])
        if twin and part.count == DATASETS[f"{name.rpartition('-')[0]}-{twin}"].counts.get(part.name):
            hint = f"this is the {twin} variant: use the name {name.rpartition('-')[0]}-{twin}"
        raise UserError(f"{name}: {part.count:,} images in part '{part.name}', expected {expected:,}; {hint}")


def _digests(spec: DatasetSpec, source: Source, verify: bool, report: Report) -> dict[str, str]:
    """sha256 of every source file, after comparing with the published digest."""
    found = {}
    for path in source.files:
        found[path.name] = digest_of(path, "sha256", report)
        kind, _, expected = published_digest(spec.files + spec.unpacked_files, path).partition(":")
        if not verify or not expected:
            continue
        actual = found[path.name] if kind == "sha256" else digest_of(path, kind, report)
        if actual != expected:
            raise UserError(
                f"{path}: {kind} is {actual}, the official file has {expected}; get it again, or pass --no-verify"
            )
    return found


def _write(
    path: Path,
    spec: DatasetSpec,
    source: Source,
    rule: SplitRule,
    ask: Preparation,
    attributes: dict[str, object],
    report: Report,
) -> None:
    """Stream all parts to their splits."""
    sizes = {part.name: min(part.count, ask.limit or part.count) for part in source.parts}
    assigned = {part.name: _split_numbers(rule.assign(part.name, sizes[part.name])) for part in source.parts}
    counts = {
        split: int(sum(np.count_nonzero(numbers == number) for numbers in assigned.values()))
        for number, split in enumerate(SPLIT_NAMES)
    }
    total, done = sum(counts.values()), 0
    if total == 0:
        have, rules = ", ".join(sizes), ", ".join(spec.rules)
        raise UserError(
            f"{ask.source}: its part(s) '{have}' do not fit the split rule; choose another --split: {rules}"
        )
    need, free = total * math.prod(source.shape), shutil.disk_usage(path.parent).free
    encoding = spec.encoding if spec.reader != "folder" or source.shape[0] < 512 else "png"
    if encoding == "raw" and need > free:
        raise UserError(f"{path.parent}: the images need {need:,} bytes, {free:,} are free; make room, or --output")
    noted: Counter[str] = Counter()
    with PackedWriter(path, counts, source.shape, encoding, source.labelled) as writer:
        for part in source.parts:
            for item, split in _items(ask.source, part, assigned[part.name]):
                noted.update(item.notes)
                if split:
                    writer.add(split, item.image, item.label, item.png)
                    done += 1
                    if done % 64 == 0 or done == total:
                        report("writing images", done, total)
        notes = [*source.notes, *(f"{count:,} picture(s) {note}" for note, count in noted.items())]
        writer.finish(attributes | {"variant": _variant(spec, source, rule, ask, writer), "notes": notes})


def _split_numbers(names: np.ndarray) -> np.ndarray:
    """Split names as positions in `SPLIT_NAMES`, -1 for left out: one byte an image instead of twenty."""
    numbers = np.full(len(names), -1, np.int8)
    for number, split in enumerate(SPLIT_NAMES):
        numbers[names == split] = number
    return numbers


def _items(source: Path, part: Part, splits: np.ndarray) -> Iterator[tuple[Item, str | None]]:
    """The part's images with the split of each, None for those left out.

    Raises:
        UserError: the source is damaged or ends early.
    """
    count = 0
    with reading(source):
        items = iter(part.items())
    while count < len(splits):
        with reading(source):
            item = next(items, None)
        if item is None:
            break
        number = splits[count]
        yield item, SPLIT_NAMES[number] if number >= 0 else None
        count += 1
    if count < len(splits):
        raise UserError(f"part '{part.name}' ends after {count:,} of {len(splits):,} images; get the source again")


def _variant(spec: DatasetSpec, source: Source, rule: SplitRule, ask: Preparation, writer: PackedWriter) -> str:
    """Word that keeps numbers of different pixels or test splits apart."""
    variant = (rule.variant or spec.variant or ask.name) + source.variant_suffix
    if ask.name == "folder":
        pixels = "".join(split.digest.hexdigest() for split in writer.splits.values())
        variant = f"folder-{hashlib.sha256(pixels.encode()).hexdigest()[:12]}"
    return variant if ask.limit is None else f"{variant}-first{ask.limit}"
