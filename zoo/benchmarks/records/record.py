"""Measured numbers: one frozen record each, carrying what is needed to repeat the number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

Bins = Literal["normalised", "vdvae", "efficient_vdvae"]
Kind = Literal["exact", "bound", "importance"]


IDENTITY = (
    *("model", "config", "architecture", "overrides", "weights", "augmented"),
    *("dataset", "variant", "resolution", "split", "dataset_digest", "verified"),
    *("bits", "bins", "priced", "kind", "estimator", "importance_samples", "precision", "tf32"),
)
"""Fields that say what was priced and how; numbers that differ in one of them answer different questions."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What every stored line says about how it came to be."""

    line: ClassVar[str]  # which class of line it is, as files say it

    date: str = ""  # UTC, ISO 8601
    command: str = ""
    seconds: float = 0.0  # wall time of the measurement
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str | int | float] = field(default_factory=dict)
    note: str = ""
    reproduces: Sequence[
        str
    ] = ()  # rows of the published tables it stands beside, see `zoo.benchmarks.measures.claims`

    def check(self) -> str | None:
        """What is wrong with the values, if anything is."""
        return None


@dataclass(frozen=True, kw_only=True)
class Record(Line):
    """The likelihood of one split under one set of weights.

    Attributes:
        model: family name as tables print it ("VDVAE").
        config: name of the experiment: of its run, or of the checkpoint where there was none.
        checkpoint: file or shipped name the weights came from.
        spec: class path and arguments that rebuild the network.
        architecture: digest of what `spec` says, whatever its arguments are called.
        overrides: arguments of the network that were changed for this number.
        weights: SHA-256 of the tensors that were priced.
        parameters: number of trained scalars.
        checked: whether the class passed `zoo.testing.check_model`.
        dataset, resolution, variant, split: which images; `dataset` is a key of `zoo data list`.
        dataset_digest: SHA-256 of the split's pixels.
        verified: whether the data were compared with published digests and counts when they were prepared.
        augmented: whether training turned or recoloured its images (mirroring does not count); tables mark it.
        images: how many were priced, each once.
        complete: whether these are all the split has.
        num_dims: dimensions of an image, the divisor of bits/dim.
        bits: depth of the levels that were priced.
        bins: pixel distribution; anything but "normalised" repeats an official formula whose levels need not sum
            to one.
        priced: "codes" if only the codes of a first stage are priced.
        kind: "exact", "bound" (ELBO) or "importance" (importance-weighted bound).
        estimator: which of the model's own estimators, if it has several ("continuous", "steps-250", "ode").
        passes: independent posterior draws averaged per image; `importance_samples` per pass.
        precision, tf32: type of the weights and activations, and whether products were rounded to TF32.
        seed: with the pass and the image's index it fixes all noise.
        batch_size: images priced at once; the number does not depend on it but for rounding.
        bits_per_dim: mean over images; `standard_error` of that mean over images, `draw_error` its part that comes from
            the random draws (None after a single pass).
        nats_per_image: the same mean in nats.
        rate, distortion: the two parts of `bits_per_dim` (of the ELBO, also when the kind is "importance").
        rates: rate of every group, bits/dim, top first.
        coded_net, coded_gross: bits/dim of real files without and with initial bits and headers.
        coded_images: how many images were coded for that (a subset is named in the note).
        coded_estimate: the estimate for the same images, what `coded_net` is to be held against.
        coded_bound: rate plus distortion at the very latents that were coded; a coder without loss reaches it.
        encode_rate, decode_rate: images per second.
    """

    line: ClassVar[str] = "likelihood"

    model: str
    config: str
    checkpoint: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: str
    parameters: int
    checked: bool = True
    dataset: str
    resolution: int
    variant: str = ""
    split: str
    dataset_digest: str
    verified: bool = True
    augmented: bool = False
    images: int
    complete: bool = True
    num_dims: int
    bits: int
    bins: Bins = "normalised"
    priced: Literal["pixels", "codes"] = "pixels"
    kind: Kind = "bound"
    estimator: str = ""
    passes: int = 1
    importance_samples: int = 0
    precision: str = "float32"
    tf32: bool = False
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

    @property
    def question(self) -> str:
        """All that makes a number what it is, but for how exactly it was measured: images, passes and seed."""
        return json.dumps([getattr(self, name) for name in IDENTITY], sort_keys=True)

    @property
    def own(self) -> bool:
        """Whether it is the number of the checkpoint as it is on verified data: nothing that needs a mark."""
        return self.verified and self.complete and not self.overrides and self.precision == "float32" and not self.tf32

    def check(self) -> str | None:
        """What is wrong with the values, if anything is."""
        if not 1 <= self.bits <= 8:
            return f"bits is {self.bits}, expected 1 to 8"
        if min(self.images, self.num_dims, self.passes, self.resolution, self.batch_size) < 1:
            return "images, num_dims, passes, resolution and batch_size must be at least 1"
        if self.standard_error < 0:
            return f"standard_error is {self.standard_error}, expected no less than 0"
        if (self.kind == "importance") != (self.importance_samples > 1):
            return f"kind '{self.kind}' with importance_samples {self.importance_samples}"
        return None


@dataclass(frozen=True, kw_only=True)
class Measurement(Line):
    """A measured number that is not the likelihood of a split (speed, pruning, stability, classical codecs, ...).

    Attributes:
        question: what was asked, a name of `zoo measure`.
        subject: what was measured (a model, a codec, a reader).
        settings: what distinguishes it from other measurements of the subject.
        values: name with unit -> number.
    """

    line: ClassVar[str] = "measurement"

    question: str
    subject: str
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    values: Mapping[str, float]


AnyLine = TypeVar("AnyLine", bound=Line)


def of_kind(lines: Iterable[Line], kind: type[AnyLine]) -> list[AnyLine]:
    """The lines of one class, in order."""
    return [line for line in lines if isinstance(line, kind)]


def about(lines: Iterable[Line], question: str) -> list[Measurement]:
    """The measurements of one question, in order."""
    return [line for line in of_kind(lines, Measurement) if line.question == question]


def best(records: Iterable[Record]) -> list[Record]:
    """One record of each question, in the order of first appearance.

    Of equal questions the one over more images counts, then the one with more passes, then the newest. Nothing takes
    the place of an answer to another question.
    """
    chosen: dict[str, tuple[tuple[int, int], Record]] = {}
    for record in records:
        rank = (record.images, record.passes)
        known = chosen.get(record.question)
        if known is None or rank >= known[0]:
            chosen[record.question] = (rank, record)
    return [record for _, record in chosen.values()]
