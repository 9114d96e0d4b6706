"""Fetching the sources whose hosts are open, checked against the published digests before use."""

from __future__ import annotations

from pathlib import Path

from zoo.data.datasets import DatasetSpec
from zoo.data.sources import SourceFile, digest_of
from zoo.errors import UserError
from zoo.fetch import Report, fetch
from zoo.files import writing


def download(
    spec: DatasetSpec, folder: Path, verify: bool = True, report: Report = lambda what, done, total: None
) -> Path:
    """Fetch every file of a data set that is not there yet.

    Args:
        spec: the table's entry.
        folder: where to put them.
        verify: compare digests.
        report: called with progress.

    Returns:
        The folder.

    Raises:
        UserError: no open host, no connection, or a wrong digest.
    """
    if not spec.downloadable:
        raise UserError(f"{spec.title}: no open host to download from ({spec.where}); get it and pass --source PATH")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file in spec.files:

        def check(part: Path, file: SourceFile = file) -> str | None:
            return _wrong_digest(file, part) if verify else None

        fetch(file.url, folder / file.name, check, report, advice=", pass --source, or --no-verify")
    return folder


def _wrong_digest(file: SourceFile, part: Path) -> str | None:
    """What is wrong with a fetched file, if its digest is published."""
    if not file.digest:
        return None
    kind, _, expected = file.digest.partition(":")
    found = digest_of(part, kind)
    return None if found == expected else f"{kind} {found}, expected {expected}"
