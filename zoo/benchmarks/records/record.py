"""Measured numbers: one frozen record each, kept as append-only JSON lines.

A record carries what is needed to repeat the number. A file of records is only ever appended to, one line in one write
under a lock, and every line is checked when it is read: a table is never built from a line that is not understood.
"""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from zoo.errors import UserError, closest

SCHEMA = 1
PACKAGED = Path(__file__).with_name("shipped")
LOCAL = Path("records")

Bins = Literal["normalised", "vdvae", "efficient_vdvae"]
Estimator = Literal["bound", "importance", "exact"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What every stored line says about how it came to be."""

    kind: ClassVar[str]

    date: str = ""  # UTC, ISO 8601
    command: str = ""
    seconds: float = 0.0  # wall time of the measurement
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str | int | float] = field(default_factory=dict)
    note: str = ""

    def check(self) -> str | None:
        """What is wrong with the values, if anything is."""
        return None


@dataclass(frozen=True, kw_only=True)
class Record(Line):
    """The likelihood of one split under one set of weights.

    Attributes:
        model: family name as tables print it ("VDVAE").
        config: name of the experiment (stem of its configuration, or of the checkpoint).
        checkpoint: file or shipped name the weights came from.
        spec: class path and arguments that rebuild the network.
        weights: SHA-256 of the tensors that were priced.
        parameters: number of trained scalars.
        dataset, resolution, variant, split: which images; `dataset` is a key of `zoo data list`.
        dataset_digest: SHA-256 of the data file.
        augmented: whether training turned or recoloured its images (mirroring does not count); tables mark it.
        images: how many were priced, each once.
        partial: whether these are fewer than the split has (`--data.limit`); tables mark it.
        num_dims: dimensions of an image, the divisor of bits/dim.
        bits: depth of the levels that were priced.
        bins: pixel distribution; anything but "normalised" repeats an official formula whose levels need not sum
            to one.
        priced: "codes" if only the codes of a first stage are priced.
        estimator: "bound" (ELBO), "importance" (importance-weighted bound) or "exact".
        estimate: which of the model's own estimators, if it has several ("continuous", "steps-250", "ode").
        passes: independent posterior draws averaged per image; `importance_samples` per pass.
        seed, batch_size: with the image order they fix all noise.
        bits_per_dim: mean over images; `standard_error` of that mean over images, `draw_error` its part that comes from
            the random draws (None after a single pass).
        nats_per_image: the same mean in nats.
        rate, distortion: the two parts of `bits_per_dim` (of the ELBO, also when the estimator is "importance").
        rates: rate of every group, bits/dim, top first.
        coded_net, coded_gross: bits/dim of real files without and with initial bits and headers.
        coded_images: how many images were coded for that (a subset is named in the note).
        coded_estimate: the estimate for the same images, what `coded_net` is to be held against.
        coded_bound: rate plus distortion at the very latents that were coded; a coder without loss reaches it.
        encode_rate, decode_rate: images per second.
    """

    kind: ClassVar[str] = "likelihood"

    model: str
    config: str
    checkpoint: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    weights: str
    parameters: int
    dataset: str
    resolution: int
    variant: str = ""
    split: str
    dataset_digest: str
    augmented: bool = False
    images: int
    partial: bool = False
    num_dims: int
    bits: int
    bins: Bins = "normalised"
    priced: Literal["pixels", "codes"] = "pixels"
    estimator: Estimator = "bound"
    estimate: str = ""
    passes: int = 1
    importance_samples: int = 0
    seed: int
    batch_size: int
    bits_per_dim: float
    standard_error: float
    draw_error: float | None = None
    nats_per_image: float
    rate: float
    distortion: float
    rates: Mapping[str, float] = field(default_factory=dict)
    coded_net: float | None = None
    coded_gross: float | None = None
    coded_images: int | None = None
    coded_estimate: float | None = None
    coded_bound: float | None = None
    encode_rate: float | None = None
    decode_rate: float | None = None

    def check(self) -> str | None:
        """What is wrong with the values, if anything is."""
        if not 1 <= self.bits <= 8:
            return f"bits is {self.bits}, expected 1 to 8"
        if min(self.images, self.num_dims, self.passes, self.resolution, self.batch_size) < 1:
            return "images, num_dims, passes, resolution and batch_size must be at least 1"
        if self.standard_error < 0:
            return f"standard_error is {self.standard_error}, expected no less than 0"
        if (self.estimator == "importance") != (self.importance_samples > 1):
            return f"estimator '{self.estimator}' with importance_samples {self.importance_samples}"
        return None


@dataclass(frozen=True, kw_only=True)
class Measurement(Line):
    """A measured number that is not the likelihood of a split (speed, pruning, stability, classical codecs, ...).

    Attributes:
        table: the table it belongs to.
        subject: what was measured (a model, a codec, a reader).
        settings: what distinguishes it from other measurements of the subject.
        values: name with unit -> number.
    """

    kind: ClassVar[str] = "measurement"

    table: str
    subject: str
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    values: Mapping[str, float]


KINDS: dict[str, type[Line]] = {Record.kind: Record, Measurement.kind: Measurement}
AnyLine = TypeVar("AnyLine", bound=Line)


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
    payload = {"schema": SCHEMA, "kind": line.kind, **dataclasses.asdict(line)}
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
        for number, content in enumerate(text.splitlines(), start=1):
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


def of_kind(lines: Iterable[Line], kind: type[AnyLine]) -> list[AnyLine]:
    """The lines of one class, in order."""
    return [line for line in lines if isinstance(line, kind)]


def latest(records: Iterable[Record]) -> list[Record]:
    """The last record of each question, in the order of first appearance.

    Two records answer the same question when everything but weights, digest of the data and the answer agrees; the
    later line is the newer one because files are only appended to. A number of part of a split never takes the place
    of one of the whole.
    """
    chosen: dict[tuple[Any, ...], Record] = {}
    for record in records:
        key = (record.model, record.config, record.dataset, record.resolution, record.variant, record.split)
        key += (record.bits, record.bins, record.priced, record.estimator, record.importance_samples)
        key += (record.estimate,)
        known = chosen.get(key)
        if known is None or known.partial or not record.partial:
            chosen[key] = record
    return list(chosen.values())


def stamp() -> dict[str, Any]:
    """Date, command line, versions and hardware of this process, as fields of a line."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "versions": _versions(),
        "hardware": _hardware(),
    }


def _command() -> str:
    """The command line, without the folders of the interpreter and the script."""
    import shlex
    import sys

    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return shlex.join(["zoo" if program in ("zoo", "__main__.py") else program, *sys.argv[1:]])


def _versions() -> dict[str, str]:
    """Versions of what a number can depend on, read from the installed metadata."""
    import importlib.metadata
    import platform

    found = {"python": platform.python_version()}
    for name in ("likelihood-zoo", "torch", "lightning", "numpy", "constriction", "pillow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, str | int | float]:
    """Kind of machine: processor, cores this process may use, threads and accelerator; no names."""
    import platform
    import sys

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int | float] = {"processor": platform.machine(), "cores": cores}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        rows = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        found["processor"] = rows[0].split(":", 1)[1].strip() if rows else platform.machine()
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["accelerator"] = torch.cuda.get_device_name()
    return found


def _parse(content: str, where: str) -> Line:
    """One line of a file; `where` names it in messages."""
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}); remove the line or restore the file") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected an object with a record's fields")
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        raise UserError(f"{where}: schema {schema!r}, this version reads {SCHEMA}; update the package")
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"{where}: kind {kind!r}; {closest(str(kind), KINDS)}")
    problem = _problem(KINDS[kind], values)
    if problem:
        raise UserError(f"{where}: {problem}")
    line = KINDS[kind](**values)
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
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
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
