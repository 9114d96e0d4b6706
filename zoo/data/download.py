"""Fetching the sources whose hosts are open: resumed after a break, checked before use."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from zoo.data.datasets import DatasetSpec
from zoo.data.sources import SourceFile, digest_of
from zoo.errors import UserError

Report = Callable[[str, int, int], None]
BLOCK = 1 << 20
TIMEOUT = 30  # seconds without any byte


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
    folder.mkdir(parents=True, exist_ok=True)
    for file in spec.files:
        if not (folder / file.name).is_file():
            fetch(file, folder / file.name, verify, report)
    return folder


def fetch(file: SourceFile, target: Path, verify: bool, report: Report) -> None:
    """Fetch one file; a half-fetched `.part` is continued where the server allows it.

    Raises:
        UserError: no connection, a server error, or a wrong digest.
    """
    part = target.with_name(target.name + ".part")
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(file.url)
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if done and answer.status != 206:  # the server sends everything again
                done = 0
            total = done + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if done else "wb") as output:
                while block := answer.read(BLOCK):
                    output.write(block)
                    done += len(block)
                    report(f"fetching {file.name}", done, total)
        if done < total:
            raise UserError(f"{file.url}: connection broke after {done:,} of {total:,} bytes; run again to continue")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing left to send, the part is whole
            raise UserError(
                f"{file.url}: server answered {error.code} {error.reason}; try later, or --source"
            ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file.url}: cannot fetch ({error}); check the connection and run again to continue"
        ) from error
    _check(file, part, verify)
    part.replace(target)


def _check(file: SourceFile, part: Path, verify: bool) -> None:
    """Compare size and digest; a wrong file is removed, so that the next run starts afresh."""
    if not verify or not file.digest:
        return
    kind, _, expected = file.digest.partition(":")
    found = digest_of(part, kind)
    if found != expected:
        part.unlink()
        raise UserError(f"{file.url}: {kind} {found}, expected {expected}; removed, run again or pass --no-verify")
