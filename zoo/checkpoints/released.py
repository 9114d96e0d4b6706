"""The released checkpoints of the papers: a table of them, and one call that fetches, checks and imports one."""

from __future__ import annotations

import json
import tomllib
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zoo.checkpoints.configurations import find_configuration
from zoo.checkpoints.convert import convert
from zoo.checkpoints.store import pulled_path
from zoo.errors import UserError, closest
from zoo.fetch import Report, fetch
from zoo.files import atomic_path, sha256_file

DATA = ("dataset", "labels", "binarize", "pad", "test_split")
"""Settings of a configuration's data that say which images a checkpoint is about."""


@dataclass(frozen=True)
class Released:
    """One released checkpoint.

    Attributes:
        name: what `zoo pull` calls it.
        source: importer, see `zoo.checkpoints.convert.SOURCES`.
        urls: addresses of its files; one that ends in `prefix=...` is the listing of a public bucket.
        licence: of the weights.
        config: stem of the configuration with this architecture, "" if there is none.
        suffix: which file of an archive or listing is meant, "" for all of it.
        options: of the importer, so that the official number comes out.
        open: whether the host was known to answer.
        note: what else to know.
    """

    name: str
    source: str
    urls: Sequence[str]
    licence: str
    config: str = ""
    suffix: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    open: bool = True
    note: str = ""


@cache
def released() -> dict[str, Released]:
    """All released checkpoints by name."""
    text = resources.files("zoo.checkpoints").joinpath("released.toml").read_text(encoding="utf-8")
    return {name: Released(name=name, **entry) for name, entry in tomllib.loads(text).items()}


def find(name: str) -> Released:
    """The released checkpoint of that name.

    Raises:
        UserError: there is none.
    """
    table = released()
    if name not in table:
        raise UserError(f"{name}: no released checkpoint of that name; {closest(name, table)}")
    return table[name]


def pull(entry: Released, report: Report = lambda what, done, total: None) -> Path:
    """Fetch a released checkpoint, hold it against what is known of it, import it and keep it.

    It is kept as `$ZOO_HOME/checkpoints/NAME.safetensors`, where every command finds it by its name. What was fetched
    stays in `$ZOO_HOME/downloads/NAME` until the import has succeeded.

    Args:
        entry: from `find`.
        report: called with progress.

    Returns:
        The checkpoint.

    Raises:
        UserError: no connection, a server error, or a file that is not what it should be.
    """
    target = pulled_path(entry.name)
    if target.is_file():
        return target
    folder = target.parent.parent / "downloads" / entry.name
    files = [_member(_fetched(url, entry, folder, report), entry.suffix) for url in entry.urls]
    notes = {"released": entry.name, "urls": list(entry.urls), **_configured(entry)}
    convert(entry.source, files, target, entry.options, notes)
    for file in folder.iterdir():
        if file.suffix != ".sha256":
            file.unlink()
    return target


def _configured(entry: Released) -> dict[str, Any]:
    """What the configuration of a released model says of its data, and the published rows it reproduces."""
    if not entry.config:
        return {}
    content = yaml.safe_load(find_configuration(entry.config).read_text(encoding="utf-8"))
    data = {name: value for name, value in (content.get("data") or {}).items() if name in DATA}
    return {"reproduces": content.get("reproduces") or [], "data": data}


def _fetched(url: str, entry: Released, folder: Path, report: Report) -> Path:
    """The file behind an address, checked."""
    expected: dict[str, Any] = {}
    if "prefix=" in url:
        url, expected = _listed(url, entry, folder)
    name = Path(urllib.parse.urlsplit(url).path).name

    def check(part: Path) -> str | None:
        if "size" in expected and part.stat().st_size != int(expected["size"]):
            return f"{part.stat().st_size:,} bytes, the listing says {int(expected['size']):,}"
        return _changed(part, folder / f"{name}.sha256") or _not_weights(part)

    advice = "" if entry.open else f" ({entry.note})"
    return fetch(url, folder / name, check, report, advice)


def _listed(url: str, entry: Released, folder: Path) -> tuple[str, dict[str, Any]]:
    """Address and description of the one file of a public bucket's listing that is meant."""
    listing = folder / "listing.json"
    listing.unlink(missing_ok=True)
    fetch(url, listing)
    try:
        items = [item for item in json.loads(listing.read_bytes())["items"] if item["name"].endswith(entry.suffix)]
        item = items[-1]
        bucket, name = item["bucket"], item["name"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{url}: lists no file that ends in {entry.suffix}; see the model's repository") from error
    return f"https://storage.googleapis.com/{bucket}/{name}", item


def _changed(part: Path, note: Path) -> str | None:
    """Whether the file is another one than at the first time. No owner publishes digests, so the first is trusted."""
    found = sha256_file(part)
    if not note.is_file():
        with atomic_path(note) as path:
            path.write_text(found + "\n")
        return None
    known = note.read_text().strip()
    return None if found == known else f"sha256 {found[:12]}..., at the first download it was {known[:12]}..."


def _not_weights(part: Path) -> str | None:
    """What a small wrong file is: web pages and pointers are what dead hosts answer."""
    with open(part, "rb") as file:
        start = file.read(512).lstrip()
    if start[:1] == b"<":
        return "a web page, not a file of weights"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself"
    return None if start else "an empty file"


def _member(file: Path, suffix: str) -> Path:
    """The file itself, or the one member of an archive that ends in the suffix, unpacked beside it."""
    if not suffix or not zipfile.is_zipfile(file) or file.name.endswith(suffix):
        return file
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(suffix)]
        if len(names) != 1:
            raise UserError(f"{file}: {len(names)} files end in {suffix}, expected one; see the model's repository")
        target = file.with_suffix(suffix)
        with archive.open(names[0]) as source, atomic_path(target) as path, open(path, "wb") as output:
            while block := source.read(1 << 20):
                output.write(block)
    return target


def as_markdown() -> str:
    """The table of `docs/reproduce.md`."""
    rows = [
        f"| `{entry.name}` | {f'`{entry.config}`' if entry.config else 'a part of a model'} | {entry.licence} "
        f"| {'open' if entry.open else 'reported gone'} | {entry.note if entry.open else ''} |"
        for entry in released().values()
    ]
    return "\n".join(["| name | configuration | licence | host | note |", "|:---|:---|:---|:---|:---|", *rows]) + "\n"
