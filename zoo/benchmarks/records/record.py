"""Measured numbers: one frozen record each, carrying what is needed to repeat the number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

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


AnyLine = TypeVar("AnyLine", bound=Line)


def of_kind(lines: Iterable[Line], kind: type[AnyLine]) -> list[AnyLine]:
    """The lines of one class, in order."""
    return [line for line in lines if isinstance(line, kind)]


def about(lines: Iterable[Line], question: str) -> list[Measurement]:
    """The measurements of one question, in order."""
    return [line for line in of_kind(lines, Measurement) if line.table == question]


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
