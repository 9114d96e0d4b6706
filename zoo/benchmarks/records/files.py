"""Files of records: JSON lines that are only ever appended to, one line in one write under a lock.

Every line is checked when it is read: a table is never built from a line that is not understood.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.benchmarks.records.record import Line, Measurement, Record
from zoo.errors import UserError, closest

SCHEMA = 2
PACKAGED = Path(__file__).with_name("shipped")
LOCAL = Path("records")
KINDS: dict[str, type[Line]] = {Record.line: Record, Measurement.line: Measurement}


def place(root: str | os.PathLike[str], line: Line) -> Path:
    """The file of records a line belongs into: `root` itself if it is named `*.jsonl`, else a file in that folder."""
    target = Path(root)
    name = line.config if isinstance(line, Record) else line.question if isinstance(line, Measurement) else line.line
    return target if target.suffix == ".jsonl" else target / f"{name}.jsonl"


def try_place(root: str | os.PathLike[str]) -> None:
    """Make sure that a file or folder of records can be written, before any work and without leaving anything behind.

    Raises:
        UserError: it cannot; the message names the path.
    """
    target = Path(root)
    nearest = next(path for path in (target, *target.absolute().parents) if path.exists())
    wants_folder = nearest != target or target.suffix != ".jsonl"
    if wants_folder != nearest.is_dir() or not os.access(nearest, os.W_OK | (os.X_OK if wants_folder else 0)):
        what = "is no folder" if wants_folder and not nearest.is_dir() else "cannot be written"
        raise UserError(f"--records {target}: {nearest} {what}; give another place")
    if not wants_folder and nearest.stat().st_size and nearest.read_bytes()[-1:] != b"\n":
        raise UserError(f"{target}: its last line has no end; remove that line, then repeat the command")


def append(path: str | os.PathLike[str], line: Line) -> None:
    """Add a line to a file of records.

    The file is locked for the time of the write and the line goes out in one call, so that processes may append to one
    file at the same time; if the write fails, the file gets its old length back.

    Raises:
        UserError: the values are impossible, or the file ends in the middle of a line.
    """
    target = Path(path)
    problem = _problem(type(line), dataclasses.asdict(line)) or line.check()
    if problem:
        raise UserError(f"{target}: record not written, {problem}")
    payload = {"schema": SCHEMA, "line": line.line, **dataclasses.asdict(line)}
    text = (json.dumps(payload, ensure_ascii=False, allow_nan=False) + "\n").encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            raise UserError(f"{target}: its last line has no end; remove that line, then repeat the command")
        try:
            if os.write(descriptor, text) != len(text):
                raise OSError(f"{target}: disk full?")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)  # releases the lock


def read(path: str | os.PathLike[str]) -> list[Line]:
    """All lines of a file, or of every `*.jsonl` of a folder in the order of file names.

    Raises:
        UserError: no such path, or a line that is not a record; the message names file and line.
    """
    root = Path(path)
    if not root.exists():
        raise UserError(f"{root}: no such file or folder of records; `zoo test` writes one, or leave out --records")
    lines: list[Line] = []
    for file in sorted(root.glob("*.jsonl")) if root.is_dir() else [root]:
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError as error:
            number = error.object[: error.start].count(b"\n") + 1
            raise UserError(f"{file}, line {number}: not UTF-8 text; remove the line or restore the file") from error
        for number, content in enumerate(text.split("\n"), start=1):  # only there: notes may hold U+2028
            if content.strip():
                lines.append(_parse(content, f"{file}, line {number}"))
    return lines


def collect(path: str | os.PathLike[str] | None = None) -> list[Line]:
    """The records tables are built from.

    Args:
        path: a file or folder; default: those that ship with the package and, if there is one, `./records`.
    """
    if path is not None:
        return read(path)
    roots = [PACKAGED] if LOCAL.resolve() == PACKAGED else [PACKAGED, LOCAL]
    return [line for root in roots if root.is_dir() for line in read(root)]


def _parse(content: str, where: str) -> Line:
    """One line of a file; `where` names it in messages."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
        raise UserError(f"{where}: not JSON ({reason}); remove the line or restore the file") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected an object with a record's fields")
    if re.search("[\ud800-\udfff]", json.dumps(values, ensure_ascii=False)):
        raise UserError(f"{where}: half a character inside; remove the line or restore the file")
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        how = "`python -m zoo.benchmarks.records.migrate FILE` converts it" if schema == 1 else "update the package"
        raise UserError(f"{where}: schema {schema!r}, this version reads {SCHEMA}; {how}")
    kind = values.pop("line", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{where}: line {kind!r}; {closest(str(kind), KINDS)}")
    problem = _problem(KINDS[kind], values)
    if problem:
        raise UserError(f"{where}: {problem}")
    make: Any = KINDS[kind]
    line: Line = make(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    problem = line.check()
    if problem:
        raise UserError(f"{where}: {problem}")
    return line


def _problem(cls: type[Line], values: Mapping[str, Any]) -> str | None:
    """The first field that is missing, unknown or of a wrong type."""
    hints = typing.get_type_hints(cls)
    names = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        if name not in names:
            return f"unknown field '{name}': {closest(name, names)}"
    for name, item in names.items():
        if name in values:
            if not _fits(values[name], hints[name]):
                return f"field '{name}' is {values[name]!r}, expected {_readable(hints[name])}"
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            return f"field '{name}' is missing"
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the annotated type; numbers must be finite."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (abs(value) < 2**1023 if isinstance(value, int) else math.isfinite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _readable(hint: Any) -> str:
    """A type as a user would say it."""
    names = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_readable, typing.get_args(hint)))
    return names.get(hint, "an object")
