"""What is known and what is prepared, as a table."""

from __future__ import annotations

import json
from typing import Any

from zoo.data.datasets import DATASETS
from zoo.data.locate import BUNDLED, data_home
from zoo.data.packed import FileInfo, describe
from zoo.errors import UserError

COLUMNS = ("name", "data set", "shape", "source", "splits", "licence", "prepared")


def prepared() -> dict[str, FileInfo | UserError]:
    """Files in the data folder by stem; an error for those that do not open."""
    found: dict[str, FileInfo | UserError] = {"photos": describe(BUNDLED)}
    for path in sorted(data_home().glob("*.h5")):
        try:
            found[path.stem] = describe(path)
        except UserError as error:
            found[path.stem] = error
    return found


def _counts(info: FileInfo) -> str:
    return ", ".join(f"{name} {split.shape[0]:,}" for name, split in info.splits.items())


def rows() -> list[tuple[str, ...]]:
    """One row a data set: the bundled one, the known ones, then other prepared files."""
    files = prepared()
    photos = files.pop("photos")
    assert isinstance(photos, FileInfo)
    table: list[tuple[str, ...]] = [("photos", "photographs, 64x64 blocks", "64x64x3", "bundled", "by photograph", "per photograph", _counts(photos))]  # fmt: skip # noqa: E501
    for name, spec in DATASETS.items():
        shape = "x".join(map(str, spec.shape)) if spec.shape else "any"
        source = ", ".join(f"{part} {count:,}" for part, count in spec.counts.items()) or "any"
        state = _state(files.pop(name, None))
        source += " (--download)" if spec.downloadable else ""
        table.append((name, spec.title, shape, source, ", ".join(spec.rules), spec.licence, state))
    for name, info in files.items():
        title = info.name if isinstance(info, FileInfo) else "?"
        table.append((name, title, "", "", "", "", _state(info)))
    return table


def _state(info: FileInfo | UserError | None) -> str:
    if info is None:
        return "-"
    return _counts(info) if isinstance(info, FileInfo) else "damaged: prepare it again"


def print_rich() -> None:
    """Print the table to a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    shown = [COLUMNS.index(name) for name in ("name", "shape", "source", "splits", "prepared")]
    for column in shown:
        table.add_column(COLUMNS[column], no_wrap=COLUMNS[column] in ("name", "shape"))
    for row in rows():
        table.add_row(*(row[column] for column in shown))
    console = Console()
    console.print(table)
    console.print(f"\nprepared files: {data_home()} ($ZOO_DATA)", highlight=False, soft_wrap=True)
    console.print("titles, licences, variants, digests, split rules: --format markdown or json", highlight=False)


def as_markdown() -> str:
    """The table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [COLUMNS, ("---",) * len(COLUMNS), *rows()]]
    return "\n".join(lines)


def as_json() -> str:
    """All that is known: counts, digests, split rules, licences, hosts."""
    files = prepared()
    known: dict[str, Any] = {}
    for name, spec in DATASETS.items():
        known[name] = {
            "title": spec.title,
            "shape": spec.shape,
            "counts": dict(spec.counts),
            "variant": spec.variant or name,
            "filter": spec.filter,
            "classes": spec.classes,
            "licence": spec.licence,
            "where": spec.where,
            "note": spec.note,
            "files": [vars(file) for file in spec.files],
            "rules": {key: {"text": rule.text, "variant": rule.variant} for key, rule in spec.rules.items()},
        }
    states = {name: _as_plain(info) for name, info in files.items()}
    return json.dumps({"known": known, "prepared": states}, indent=2)


def _as_plain(info: FileInfo | UserError) -> dict[str, Any]:
    if isinstance(info, UserError):
        return {"error": str(info)}
    images = {name: split.shape[0] for name, split in info.splits.items()}
    return {"path": str(info.path), "variant": info.variant, "images": images}
