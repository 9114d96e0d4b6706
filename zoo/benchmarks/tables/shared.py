"""What tables share: cells of published and measured numbers, their marks, and how both find each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.benchmarks.records import Line, Measurement, Record
from zoo.benchmarks.records.references import Reference, References
from zoo.benchmarks.render import NOT_PUBLISHED, Cell, number
from zoo.errors import UserError, closest

MARKS = {
    "°": "a bound by the nature of the model (VAE, diffusion, dequantised flow); the source prints no ≤",
    "*": "trained with data augmentation, as marked by the source; ours: turned or recoloured images",
    "⁇": "sources disagree about the augmentation mark; see the table `disputes`",
    "‡": "official 5-bit code: its bins overlap, the levels sum to more than one, the number is about 0.04 too good",
    "~": 'the source says "about" or "roughly"',
    "ᶜ": "printed in nats/dim, converted",
    "†": "measured under the official formula of that code, not under a normalised distribution",
    "§": "pixel distribution around the decoder is ours, not the paper's, which has none",
    "ᵏ": "importance-weighted bound, tighter than the ELBO: not to be held against unmarked numbers",
    "ᵒ": "by the probability-flow ODE, a bound up to the tolerance of its solver; not the model the ELBO prices",
    "ᵃ": "which of the two preparations of the images is taken from the paper's date or name for it",
    "ʰ": "one half of the test images (Efficient-VDVAE splits them into validation and test)",
    "ᵖ": "fewer images than the split has, or a split other than test",
    "ᵘ": "the data were not compared with published digests and counts: other images may hide under the name",
    "ᵗ": "an argument of the network was changed for this number, as the row says",
    "ᵈ": "weights in another precision than float32, or products rounded to TF32",
    "ᶻ": "the model's class never passed `zoo.testing.check_model`: its probabilities may not sum to one",
    "ˢ": "measured on the nearest split that can be rebuilt; the published one cannot",
    "ᵇ": "measured under bins that meet; the published number is by the official formula",
    "ᴬ": "FID, precision and recall of the ADM evaluator: Inception features, k = 3",
}


@dataclass(frozen=True)
class Measured:
    """A measured number in the unit of the published one it belongs to.

    Attributes:
        value: the number.
        line: where it is stored.
        error: its standard error, where there is one.
        marks: in what it differs from the published number.
    """

    value: float
    line: Line
    error: float | None = None
    marks: tuple[str, ...] = ()


# -- published ------------------------------------------------------------------------------------------------------


def published_cell(numbers: Sequence[Reference], references: References, digits: int = 2, why: str = "") -> Cell:
    """Value, marks and address of what one or more sources print for the same model and images."""
    if not numbers:
        return number(None, empty=NOT_PUBLISHED, why=why)
    first = numbers[0]
    augmented = {n.augmented for n in numbers}
    marks = ["°"] * (first.kind == "bound" and not any(n.sign for n in numbers))
    marks += ["⁇"] if len(augmented) == 2 else ["*"] * first.augmented
    marks += ["‡"] * any(n.bins != "normalised" for n in numbers)
    marks += ["~"] * first.approximate
    marks += ["ᶜ"] * (first.unit == "nats/dim")
    marks += ["ᵏ"] * (first.kind == "importance") + ["ᵒ"] * (first.kind == "ode")
    marks += ["ᵃ"] * first.assumed
    marks += ["ʰ"] * (first.metric == "nll" and references.heading(first.variant) != first.variant)
    marks += ["ᴬ"] * (first.variant == "ADM evaluator")
    likelihood = first.bits_per_dim() if first.metric == "nll" and first.unit != "nats" else None
    return number(
        first.value if likelihood is None else likelihood,
        digits,
        prefix="≥ " if first.note == "at least" else "≤ " if first.kind in ("bound", "importance") else "",
        marks=marks,
        link=references.sources[first.source].url,
        refs=tuple(n.id for n in numbers),
        kind=first.kind,
    )


def source_of(numbers: Sequence[Reference], references: References) -> Cell:
    """Short names of the sources of some numbers with their tables, linked to the first."""
    found: dict[str, list[str]] = {}
    for reference in numbers:
        tables = found.setdefault(references.sources[reference.source].short, [])
        if reference.table[:1].isdigit() and f"t{reference.table}" not in tables:
            tables.append(f"t{reference.table}")
    text = "; ".join(" ".join([name, *tables]) for name, tables in found.items())
    return Cell(text, text, link=references.sources[numbers[0].source].url if numbers else "")


# -- measured -------------------------------------------------------------------------------------------------------


def kind_of(record: Record) -> str:
    """Kind of a measured likelihood, in the words of the references."""
    return "ode" if record.estimator.startswith("ode") else record.kind


def repeat(line: Line) -> str:
    """The command that measures a line anew, in today's words."""
    if isinstance(line, Measurement):
        subject = line.subject if "weights" in line.settings else ""
        return " ".join(filter(None, ["zoo measure", line.question, subject]))
    if not isinstance(line, Record):
        return line.command
    name = line.checkpoint.removesuffix(".safetensors")
    words = ["zoo test", line.config if name in ("last", "") or name.endswith(".ckpt") else name]
    words += [f"--passes {line.passes}"] * (line.passes > 1)
    words += [f"--importance_samples {line.importance_samples}"] * (line.importance_samples > 1)
    words += [f"--estimator {line.estimator}"] * bool(line.estimator)
    return " ".join([*words, *[f"--seed_everything {line.seed}"] * bool(line.seed)])


def provenance(line: Line) -> dict[str, Any]:
    """What is needed to repeat a line, in the order a reader wants it."""
    hardware = " ".join(str(line.hardware[name]) for name in ("processor", "accelerator") if line.hardware.get(name))
    shared = {
        "date": line.date,
        "hardware": hardware,
        "repeat": repeat(line),
        "command": line.command,
        "versions": _joined(line.versions),
    }
    if isinstance(line, Record):
        return {
            "experiment": line.config,
            "dataset": f"{line.dataset} {line.resolution}x{line.resolution}, {line.bits} bits",
            "split": line.split,
            "images": line.images,
            "value": f"{line.bits_per_dim:.6f} ± {line.standard_error:.6f} bits/dim",
            "estimator": " ".join(filter(None, [line.kind, line.estimator])),
            "passes": line.passes,
            "precision": line.precision + (", TF32" if line.tf32 else ""),
            "overrides": _joined(line.overrides),
            "verified data": line.verified,
            "importance_samples": line.importance_samples or "",
            "bins": line.bins,
            "seed": line.seed,
            "batch_size": line.batch_size,
            "architecture": line.architecture,
            "weights": line.weights,
            "dataset_digest": line.dataset_digest,
            "note": line.note,
            **shared,
        }
    if isinstance(line, Measurement):
        return {"experiment": line.subject, "question": line.question, **line.settings, "note": line.note, **shared}
    return shared


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def record_marks(record: Record, references: References) -> list[str]:
    """Everything that makes a measured likelihood another kind of number."""
    marks = ["*"] * record.augmented
    marks += ["†"] * (record.bins != "normalised")
    marks += ["§"] * (not references.family(str(record.spec.get("class_path", ""))).paper_prices_pixels)
    marks += ["ᵏ"] * (record.kind == "importance")
    marks += ["ᵒ"] * record.estimator.startswith("ode")
    marks += ["ᵘ"] * (not record.verified) + ["ᵗ"] * bool(record.overrides)
    marks += ["ᵈ"] * (record.precision != "float32" or record.tf32) + ["ᶻ"] * (not record.checked)
    return marks + ["ᵖ"] * (record.split != "test" or not record.complete)


def measured_cell(
    record: Record | None, references: References, nats: bool = False, marks: Sequence[str] = (), why: str = ""
) -> Cell:
    """Bound sign, value, standard error and marks of a record."""
    if record is None:
        return number(None, why=why)
    value, error = record.bits_per_dim, record.standard_error
    if nats:
        scale = record.nats_per_image / record.bits_per_dim if record.bits_per_dim else 0.0
        value, error = record.nats_per_image, record.standard_error * scale
    digits = 2 if nats else 3
    sign = "" if record.kind == "exact" else "≤ "
    return number(
        value,
        digits,
        prefix=sign,
        suffix=f" ± {error:.{digits}f}",
        marks=[*record_marks(record, references), *marks],
        record=provenance(record),
        kind=kind_of(record),
    )


def line_cell(line: Measurement | None, name: str, digits: int, scale: float = 1.0, why: str = "") -> Cell:
    """One value of a measurement, with the way back to its line."""
    value = None if line is None else line.values.get(name)
    if line is None or value is None:
        return number(None, why=why)
    return number(value * scale, digits, record=provenance(line))


def gap_cell(published: float | None, measured: float | None, digits: int = 3) -> Cell:
    """Measured minus published."""
    if published is None or measured is None:
        return Cell("", why="needs a published and a measured number")
    return Cell(f"{measured - published:+.{digits}f}", measured - published)


# -- how published and measured find each other ---------------------------------------------------------------------


def reproduced(line: Line) -> tuple[str, ...]:
    """Rows of the published tables that a stored line says it reproduces."""
    return tuple(line.reproduces)


def deviations(record: Record, reference: Reference, references: References) -> tuple[str, ...] | None:
    """In what a record differs from a published likelihood it says it reproduces; None if they are no pair."""
    known = references.dataset(record.dataset, record.resolution)
    steps = reference.settings.get("steps") if reference.source == "vdm_paper" else None
    estimate = f"steps-{steps}" if steps else ""
    if (known.name, record.resolution, record.bits) != (reference.dataset, reference.resolution, reference.bits):
        return None
    if (
        not record.own
        or record.priced == "codes"
        or record.augmented != reference.augmented
        or (record.kind == "importance") != (reference.kind == "importance")
    ):
        return None
    if record.estimator != estimate and not (not steps and record.estimator == "continuous"):
        return None
    variant = "" if record.variant == record.dataset else record.variant
    marks = ["ˢ"] * (variant != reference.variant)
    return (*marks, *["ᵇ"] * (record.bins != reference.bins))


def joined(lines: Sequence[Line], references: References) -> dict[str, Measured]:
    """Id of a published number -> the measured one that reproduces it, in the published unit."""
    rows: dict[str, list[Reference]] = {}
    for reference in references.numbers:
        rows.setdefault(reference.row, []).append(reference)
    found: dict[str, Measured] = {}
    for line in lines:
        for row in reproduced(line):
            for reference in rows.get(row, []):
                for measured in _answers(line, reference, references):
                    before = found.get(reference.id)
                    if before is None or len(measured.marks) <= len(before.marks):
                        found[reference.id] = measured
    return found


def _answers(line: Line, reference: Reference, references: References) -> Iterator[Measured]:
    """The number of a line that a published number asks for, if it has it."""
    if isinstance(line, Measurement):
        name, scale = QUANTITIES.get((line.question, reference.metric), ("", 1.0))
        if (line.question, reference.metric) == ("codes", "prior_nll"):
            name = f"{reference.model.split()[1]} nats/code"  # "VQ-VAE-2 top prior"
        if name in line.values:
            yield Measured(line.values[name] * scale, line)
    elif isinstance(line, Record):
        marks = deviations(line, reference, references)
        value = likelihood_in(line, reference)
        if reference.metric == "parameters":
            yield Measured(line.parameters / 1e6, line)
        elif marks is not None and value is not None:
            error = line.standard_error * value / line.bits_per_dim if line.bits_per_dim else None
            yield Measured(value, line, error if reference.metric == "nll" else None, marks)


QUANTITIES: dict[tuple[str, str], tuple[str, float]] = {  # (question, metric) -> name of the value, its scale
    ("compute", "parameters"): ("parameters", 1e-6),
    ("codes", "mse"): ("mse [0,1]", 1.0),
    ("pruning", "nll"): ("bits_per_dim", 1.0),
    ("pruning", "kl"): ("rate", 1.0),
    ("pruning", "reconstruction"): ("distortion", 1.0),
    ("pruning", "encoded_size"): ("megabytes", 1e-3),
    ("quality", "fid"): ("fid", 1.0),
    ("quality", "precision"): ("precision", 1.0),
    ("quality", "recall"): ("recall", 1.0),
    ("quality", "cas_top1"): ("cas_top1", 1.0),
    ("quality", "cas_top5"): ("cas_top5", 1.0),
    ("speed_sampling", "sampling_time"): ("seconds per 1000 images", 1.0),
    ("stability", "skipped_updates"): ("skipped_updates", 1.0),
    ("stability", "nll"): ("bits_per_dim", 1.0),
    ("schedules", "variance"): ("own_variance", 1.0),
}


def likelihood_in(record: Record, reference: Reference) -> float | None:
    """The number of a record that a published metric names, in its unit."""
    if reference.metric == "nll":
        in_unit = {"nats": record.nats_per_image, "nats/dim": record.bits_per_dim * math.log(2.0)}
        return in_unit.get(reference.unit, record.bits_per_dim)
    return {"coded_net": record.coded_net, "kl": record.rate, "reconstruction": record.distortion}.get(reference.metric)


# -- what is shown --------------------------------------------------------------------------------------------------


def chooses(query: str | None, references: References, places: Sequence[tuple[str, int, str]]) -> list[bool]:
    """Which (data set, side, variant) a user means by a name: the project's own or that of the papers, or a part.

    Raises:
        UserError: none of them; the message says which there are.

    Example:
        >>> from zoo.benchmarks.records import references
        >>> chooses("cifar10", references.load(), [("CIFAR-10", 32, ""), ("ImageNet", 32, "old-small")])
        [True, False]
    """
    if query is None:
        return [True] * len(places)
    own = references.datasets.get(query)
    wanted = plain(query)
    chosen = []
    for dataset, side, variant in places:
        if own is not None:
            chosen.append((own.name, own.resolution) == (dataset, side) and own.variant in ("", variant))
        else:
            chosen.append(wanted in plain(f"{dataset}{side}x{side}{variant}") or plain(dataset) == wanted)
    if not any(chosen):
        present = {(dataset, side) for dataset, side, _ in places}
        names = {key for key, known in references.datasets.items() if (known.name, known.resolution) in present}
        names |= {f"{dataset} {side}" for dataset, side in present}
        raise UserError(f"--dataset {query}: no number is about such images; {closest(query, sorted(names))}")
    return chosen


def insist(dataset: str, records: Sequence[Line], usual: str = "photos") -> None:
    """Refuse a data set that no record is about; the usual one may be missing.

    Raises:
        UserError: no record is about it; the message says which there are.
    """
    present = {line.dataset for line in records if isinstance(line, Record)}
    if dataset != usual and dataset not in present:
        raise UserError(f"--dataset {dataset}: no record is about it; {closest(dataset, present)}")


def plain(text: str) -> str:
    """Letters and digits alone, small."""
    return re.sub(r"[^a-z0-9]", "", text.lower())
