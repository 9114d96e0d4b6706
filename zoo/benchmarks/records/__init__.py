"""Measured numbers (`record`) and published ones (`references`), and the files of both that ship with the package."""

from zoo.benchmarks.records.record import (
    LOCAL,
    PACKAGED,
    SCHEMA,
    Line,
    Measurement,
    Record,
    append,
    collect,
    latest,
    of_kind,
    read,
    stamp,
)

__all__ = [
    "LOCAL",
    "PACKAGED",
    "SCHEMA",
    "Line",
    "Measurement",
    "Record",
    "append",
    "collect",
    "latest",
    "of_kind",
    "read",
    "stamp",
]
