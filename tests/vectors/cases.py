"""Find the golden cases that are there.

`ZOO_VECTORS` names the root folder (default: the small copies in `tests/vectors/data`). A source is a folder below it,
a case a file, or a folder, that a pattern finds in the source. No case is named in a test.
"""

import os
from pathlib import Path

import pytest

DEFAULT_ROOT = Path(__file__).parent / "data"


def root() -> Path:
    """Folder that holds one folder per source."""
    return Path(os.environ.get("ZOO_VECTORS") or DEFAULT_ROOT)


def cases(source: str, pattern: str) -> list:
    """Parameters for `pytest.mark.parametrize`, one per case.

    Args:
        source: folder name below the root, such as `vdvae`.
        pattern: glob within it that finds one path per case, such as `*.json` or `*/config.json`.

    Returns:
        `pytest.param(path)` with the id `<source>-<case>`, where the case is the file's stem, or the folder's name when
        the pattern looks into folders. One skipped parameter when the root lacks the source.
    """
    folder = root() / source
    in_folders = "/" in pattern
    found = sorted(folder.glob(pattern))
    if not found:
        reason = f"no {pattern} under {folder}"
        return [pytest.param(None, id=f"{source}-none", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=f"{source}-{path.parent.name if in_folders else path.stem}") for path in found]
