"""Files of records written by earlier versions, brought to today's fields: `python -m zoo.benchmarks.records.migrate`.

Schema 1 called the kind of a number `estimator` and its estimator `estimate`, and did not say what a number is of: the
architecture's digest is computed here, and data count as verified only if they ship with the package.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from zoo.benchmarks.records.files import SCHEMA, read
from zoo.errors import UserError
from zoo.files import atomic_path


def migrated(line: dict[str, Any]) -> dict[str, Any]:
    """A stored line of schema 1 with the fields of schema 2; a newer line as it is."""
    if line.get("schema") != 1:
        return line
    kept = {name: value for name, value in line.items() if name not in ("schema", "kind")}
    head = {"schema": SCHEMA, "line": line.get("kind")}
    return head | (_measurement(kept) if line.get("kind") == "measurement" else _record(kept))


def _measurement(line: dict[str, Any]) -> dict[str, Any]:
    return {"question" if name == "table" else name: value for name, value in line.items()}


def _record(line: dict[str, Any]) -> dict[str, Any]:
    from zoo.benchmarks.measures.identity import architecture
    from zoo.checkpoints.specification import qualified

    renamed = {"estimator": "kind", "estimate": "estimator"}
    found = {renamed.get(name, name): value for name, value in line.items() if name != "partial"}
    variant, limited = re.subn(r"-first\d+", "", found.get("variant", ""))
    spec = qualified(found["spec"]) if found.get("spec") else {}
    complete = not (line.get("partial") or limited)
    found |= {"variant": variant, "complete": complete, "spec": spec, "verified": found["dataset"] == "photos"}
    return found | {"architecture": architecture(spec) if spec else ""}


def migrate(path: Path) -> int:
    """Rewrite a file; its old lines are replaced in one step. Returns how many lines it has.

    Raises:
        UserError: a line cannot be converted; the file is as it was.
    """
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").split("\n") if text.strip()]
    with atomic_path(path) as temporary:
        text = "".join(json.dumps(migrated(line), ensure_ascii=False) + "\n" for line in lines)
        temporary.write_text(text, encoding="utf-8")
        read(temporary)
    return len(lines)


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            print(f"{name}: {migrate(Path(name))} lines")
    except UserError as error:
        sys.exit(f"error: {error}")
