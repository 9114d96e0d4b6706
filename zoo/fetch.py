"""Files from the network: resumed after a break, under their final name only when they are whole and checked."""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from zoo.errors import UserError

Report = Callable[[str, int, int], None]
"""Called with what is being fetched, the bytes that are there, and the bytes expected (0 if unknown)."""

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without any byte
_NOTHING_LEFT = 416


def mirrored(url: str) -> str:
    """The address to ask: with `ZOO_MIRROR=https://my.host/files` set, `https://a.org/b` is `https://my.host/files/a.org/b`."""
    mirror = os.environ.get("ZOO_MIRROR", "").rstrip("/")
    parts = urllib.parse.urlsplit(url)
    if not mirror or not parts.netloc:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return f"{mirror}/{parts.netloc}{parts.path}{query}"


def fetch(
    url: str,
    target: Path,
    check: Callable[[Path], str | None] = lambda path: None,
    report: Report = lambda what, done, total: None,
    advice: str = "",
) -> Path:
    """Fetch one file; a half-fetched `.part` beside it is continued where the server allows it.

    Args:
        url: address, see `mirrored`.
        target: file to write. If it is there already, nothing is fetched.
        check: says what is wrong with the whole file, or None; a wrong file is removed, so that the next run starts
            afresh.
        report: called with progress.
        advice: what else the user may do when the server refuses.

    Returns:
        `target`.

    Raises:
        UserError: no connection, a server error, a broken connection (run again to continue), or a wrong file.
    """
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        done, total = _receive(url, part, report)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: server answered {error.code} {error.reason}; try later{advice}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{url}: cannot fetch ({error}); check the connection and run again to continue") from error
    if done < total:
        raise UserError(f"{url}: connection broke after {done:,} of {total:,} bytes; run again to continue")
    problem = check(part)
    if problem is not None:
        part.unlink()
        raise UserError(f"{url}: {problem}; removed, run again{advice}")
    part.replace(target)
    return target


def _receive(url: str, part: Path, report: Report) -> tuple[int, int]:
    """Append what is missing of a part; bytes that are there now, and bytes that were promised."""
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(mirrored(url))
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
                    report(f"fetching {part.name.removesuffix('.part')}", done, total)
            return done, total
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_LEFT and done:  # the part is whole
            return done, done
        raise
