"""Measured numbers (`record`) and published ones (`references`), and the files of both that ship with the package."""

from zoo.benchmarks.records.files import LOCAL, PACKAGED, SCHEMA, append, collect, place, read, try_place
from zoo.benchmarks.records.provenance import stamp
from zoo.benchmarks.records.record import Line, Measurement, Record, about, best, of_kind

__all__ = [
    "LOCAL",
    "PACKAGED",
    "SCHEMA",
    "Line",
    "Measurement",
    "Record",
    "about",
    "append",
    "best",
    "collect",
    "of_kind",
    "place",
    "read",
    "stamp",
    "try_place",
]
