"""Published numbers: package data with source, table, bound sign, augmentation and data-set variant."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any, Literal

Kind = Literal["", "exact", "bound", "importance", "ode"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One number as its source prints it.

    Attributes:
        id: stable name; configurations and records carry it. That of a likelihood is the row's, others add ".metric".
        source: key of `References.sources`.
        table: the table, or the place in the text.
        metric, unit: what was measured ("nll" in "bits/dim", "memory" in "GB", ...).
        model: name as the table prints it.
        dataset, resolution: which images, in the words of papers.
        bits: depth per channel of the images (1 = binary).
        value: the number.
        kind: of a likelihood: "exact", "bound" (VAE, diffusion, dequantised flow), "importance" or "ode"; else "".
        sign: the source prints the <= sign.
        augmented: the source marks data augmentation.
        variant: key of `References.variants`; "" if the data-set's name says which images.
        assumed: the variant is taken from the date or the name the paper uses.
        bins: of the released likelihood; anything but "normalised" need not sum to one over the levels.
        approximate: the source says "about".
        settings: what tells rows of one model apart.
        note: what else a reader should know.
    """

    id: str
    source: str
    table: str
    metric: str
    unit: str
    model: str
    dataset: str
    resolution: int
    bits: int
    value: float
    kind: Kind = ""
    sign: bool = False
    augmented: bool = False
    variant: str = ""
    assumed: bool = False
    bins: Literal["normalised", "vdvae", "efficient_vdvae"] = "normalised"
    approximate: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def row(self) -> str:
        """Id of the printed row that the number stands in."""
        return self.id if self.metric == "nll" else self.id.removesuffix(f".{self.metric}")

    def bits_per_dim(self) -> float | None:
        """The value in bits/dim, if its unit allows that."""
        if self.unit == "nats/dim":
            return self.value / math.log(2.0)  # a number from print; measured ones are converted in zoo.likelihood
        return self.value if self.unit == "bits/dim" else None


@dataclass(frozen=True)
class Source:
    """Where numbers come from: short name for tables, title, the part of it, address and year."""

    short: str
    title: str
    where: str
    url: str
    year: int


@dataclass(frozen=True)
class Variant:
    """Which images a number is about.

    Attributes:
        text: in words.
        heading: variant whose heading it stands under, marked; None = a heading of its own.
        images: "old" or "new" for the two preparations of downsampled ImageNet.
    """

    text: str
    heading: str | None = None
    images: Literal["", "old", "new"] = ""


@dataclass(frozen=True)
class Model:
    """What is known of a model whatever the data.

    Attributes:
        year: of its paper.
        type: "VAE", "flow", "autoregressive" or "diffusion".
        url: address of its paper.
        evaluations: network evaluations to draw one image: a number, or "pixels" (one a pixel), "values" (one a channel
            of a pixel), "codes" (one a code), "steps" (as chosen), "solver"; "" = not known.
    """

    year: int
    type: str
    url: str = ""
    evaluations: str = ""


@dataclass(frozen=True)
class Dataset:
    """Name and side length that papers use for one of our data-set keys, and which variant of that it is."""

    name: str
    resolution: int
    variant: str = ""


@dataclass(frozen=True)
class Family:
    """A model class: name in tables, and whether the published model has a pixel likelihood at all."""

    name: str
    paper_prices_pixels: bool


@dataclass(frozen=True)
class Depths:
    """Stochastic layers per resolution, as published."""

    id: str
    source: str
    table: str
    model: str
    dataset: str
    resolutions: Sequence[int]
    layers: Sequence[int]


@dataclass(frozen=True)
class Dispute:
    """A place where sources disagree, and our reading."""

    id: str
    what: str
    sources_say: str
    reading: str


@dataclass(frozen=True)
class References:
    """All published numbers, with the lists that explain their marks."""

    sources: Mapping[str, Source]
    variants: Mapping[str, Variant]
    datasets: Mapping[str, Dataset]
    families: Mapping[str, Family]
    models: Mapping[str, Model]
    depths: Sequence[Depths]
    disputes: Sequence[Dispute]
    numbers: Sequence[Reference]

    def select(self, **wanted: Any) -> Iterator[Reference]:
        """Numbers whose fields equal the given values; a tuple means "one of".

        Example:
            >>> [n.value for n in load().select(metric="memory", table="3", dataset="CIFAR-10")]
            [8.0, 17.0, 32.0]
            >>> [n.id for n in load().select(model="VDVAE", dataset="FFHQ", table="results")]
            ['child2020.ffhq256.5bit', 'child2020.ffhq1024.8bit']
        """
        for number in self.numbers:
            if all(
                getattr(number, name) in value if isinstance(value, tuple) else getattr(number, name) == value
                for name, value in wanted.items()
            ):
                yield number

    def family(self, class_path: str) -> Family:
        """Family of a class path like "zoo.models.VDVAE"; an unknown class is its own family."""
        name = class_path.rpartition(".")[2]
        return self.families.get(name, Family(name, True))

    def dataset(self, key: str, resolution: int) -> Dataset:
        """What papers call a data set; an unknown key keeps its own name."""
        return self.datasets.get(key, Dataset(key, resolution))

    def heading(self, variant: str) -> str:
        """The variant whose heading a number of this variant stands under."""
        known = self.variants.get(variant)
        return variant if known is None or known.heading is None else known.heading

    def model(self, name: str) -> Model | None:
        """What is known of a model by the longest known name that begins the given one ("VDM, ODE" is a VDM)."""
        found = [known for known in self.models if name == known or name.startswith((f"{known} ", f"{known},"))]
        return self.models[max(found, key=len)] if found else None


@functools.cache
def load() -> References:
    """Read the package's list of published numbers."""
    text = resources.files("zoo.benchmarks.records").joinpath("references.toml").read_text(encoding="utf-8")
    return parse(tomllib.loads(text))


def parse(data: Mapping[str, Any]) -> References:
    """Turn the parsed file into objects, checking keys and cross references.

    Raises:
        ValueError: an unknown key, source or variant.
    """
    if data.get("schema") != 2:
        raise ValueError(f"references: schema {data.get('schema')!r}, expected 2")
    numbers = [number for group in data["group"] for row in group["rows"] for number in _numbers(group, row, data)]
    seen: set[str] = set()
    for number in numbers:
        if number.id in seen:
            raise ValueError(f"references: {number.id} is listed twice")
        seen.add(number.id)
    return References(
        sources={key: Source(**value) for key, value in data["sources"].items()},
        variants={key: Variant(**value) for key, value in data["variants"].items()},
        datasets={key: Dataset(**value) for key, value in data["datasets"].items()},
        families={key: Family(**value) for key, value in data["families"].items()},
        models={key: Model(**value) for key, value in data["models"].items()},
        depths=[Depths(**value) for value in data["depths"]],
        disputes=[Dispute(**value) for value in data["disputes"]],
        numbers=numbers,
    )


def _numbers(group: Mapping[str, Any], row: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Reference]:
    """The numbers of one printed row, checked."""
    common = group.get("common", {})
    merged = {**common, **row, "settings": {**common.get("settings", {}), **row.get("settings", {})}}
    values, kind = merged.pop("values", {}), merged.pop("kind", "")
    where = f"references: {group['source']} table {group['table']}, {merged.get('id') or merged.get('model')}"
    unknown = set(merged) - {item.name for item in fields(Reference)} - {"metric", "unit", "value", "kind"}
    unknown |= set(values) - set(group["units"])
    if unknown or not values:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}" if unknown else f"{where}: no values")
    if group["source"] not in data["sources"]:
        raise ValueError(f"{where}: source is not listed")
    if merged.get("variant") and merged["variant"] not in data["variants"]:
        raise ValueError(f"{where}: variant '{merged['variant']}' is not explained")
    if ("nll" in values) > (kind in ("exact", "bound", "importance", "ode")):
        raise ValueError(f"{where}: kind of the likelihood is {kind!r}, expected exact, bound, importance or ode")
    likelihood = {"kind": kind, **{name: merged.pop(name) for name in ("sign", "bins", "augmented") if name in merged}}
    for metric, value in values.items():
        head = {"source": group["source"], "table": group["table"], "metric": metric, "unit": group["units"][metric]}
        head |= likelihood if metric == "nll" else {}
        name = merged["id"] if metric == "nll" else f"{merged['id']}.{metric}"
        yield Reference(**{**merged, **head, "id": name, "value": float(value)})
