"""A process of its own that reads an LMDB and writes what it holds to its output, each value after its length.

`python lmdb_process.py FOLDER count|all`: first the number of entries (8 bytes), then the values in the order of their
keys. A value larger than an image file may be ends it, and so do more values than entries. To start quickly it imports
nothing of the zoo.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

NO_LMDB = 3
MAX_VALUE = 256 << 20


def main(folder: str, what: str) -> int:
    """Write the entries of a folder to the standard output."""
    try:
        lmdb: Any = importlib.import_module("lmdb")
    except ImportError:
        return NO_LMDB
    output = sys.stdout.buffer

    def send(value: bytes) -> None:
        output.write(len(value).to_bytes(8, "big"))
        output.write(value)

    with (
        lmdb.open(folder, readonly=True, lock=False, readahead=False, max_readers=1, create=False) as environment,
        environment.begin(buffers=True) as transaction,
    ):
        entries = int(transaction.stat()["entries"])
        send(entries.to_bytes(8, "big"))
        for number, (_, value) in enumerate(transaction.cursor() if what == "all" else ()):
            if len(value) > MAX_VALUE or number >= entries:
                raise ValueError(f"value {number} of {entries} has {len(value):,} bytes")
            send(bytes(value))
    output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
