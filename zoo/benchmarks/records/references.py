"""Published numbers: package data with source, table, bound sign, augmentation and data-set variant."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One number as its source prints it.

    Attributes:
        source: key of `References.sources`.
        table: the table, or the place in the text.
        metric, unit: what was measured ("nll" in "bits/dim", "memory" in "GB", ...).
        bits: depth per channel of the images (1 = binary).
        bound: "upper" if the number bounds the likelihood by the nature of the model.
        sign: the source prints the <= sign.
        augmented: the source marks data augmentation.
        variant: key of `References.variants`; "" if the data-set's name says which images.
        bins: "overlap" if the released likelihood does not sum to one over the levels.
        settings: what tells rows of one model apart.
    """

    source: str
    table: str
    metric: str
    unit: str
    model: str
    dataset: str
    resolution: int
    bits: int
    value: float
    bound: Literal["upper", "exact"] = "exact"
    sign: bool = False
    augmented: bool = False
    variant: str = ""
    bins: Literal["tile", "overlap"] = "tile"
    approximate: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def bits_per_dim(self) -> float | None:
        """The value in bits/dim, if its unit allows that."""
        if self.unit == "nats/dim":
            return self.value / math.log(2.0)  # a number from print; measured ones are converted in zoo.likelihood
        return self.value if self.unit == "bits/dim" else None


@dataclass(frozen=True)
class Source:
    """Where numbers come from: short name for tables, title, and the part of it."""

    short: str
    title: str
    where: str


@dataclass(frozen=True)
class Dataset:
    """Name and side length that papers use for one of our data-set keys."""

    name: str
    resolution: int


@dataclass(frozen=True)
class Family:
    """A model class: name in tables, and whether the published model has a pixel likelihood at all."""

    name: str
    paper_prices_pixels: bool


@dataclass(frozen=True)
class Depths:
    """Stochastic layers per resolution, as published."""

    source: str
    table: str
    model: str
    dataset: str
    resolutions: Sequence[int]
    layers: Sequence[int]


@dataclass(frozen=True)
class Dispute:
    """A place where sources disagree, and our reading."""

    what: str
    sources_say: str
    reading: str


@dataclass(frozen=True)
class References:
    """All published numbers, with the lists that explain their marks."""

    sources: Mapping[str, Source]
    variants: Mapping[str, str]
    datasets: Mapping[str, Dataset]
    families: Mapping[str, Family]
    depths: Sequence[Depths]
    disputes: Sequence[Dispute]
    numbers: Sequence[Reference]

    def select(self, **wanted: Any) -> Iterator[Reference]:
        """Numbers whose fields equal the given values; a tuple means "one of".

        Example:
            >>> [n.value for n in load().select(metric="memory", table="3", dataset="CIFAR-10")]
            [8.0, 17.0, 32.0]
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
    if data.get("schema") != 1:
        raise ValueError(f"references: schema {data.get('schema')!r}, expected 1")
    numbers = [_number(group, row, data) for group in data["group"] for row in group["rows"]]
    return References(
        sources={key: Source(**value) for key, value in data["sources"].items()},
        variants=data["variants"],
        datasets={key: Dataset(**value) for key, value in data["datasets"].items()},
        families={key: Family(**value) for key, value in data["families"].items()},
        depths=[Depths(**value) for value in data["depths"]],
        disputes=[Dispute(**value) for value in data["disputes"]],
        numbers=numbers,
    )


def _number(group: Mapping[str, Any], row: Mapping[str, Any], data: Mapping[str, Any]) -> Reference:
    """One row of a group, checked."""
    where = f"references: {group['source']} table {group['table']}, {row.get('model')}"
    unknown = set(row) - {item.name for item in fields(Reference)}
    if unknown:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}")
    if group["source"] not in data["sources"]:
        raise ValueError(f"{where}: source is not listed")
    if row.get("variant") and row["variant"] not in data["variants"]:
        raise ValueError(f"{where}: variant '{row['variant']}' is not explained")
    head = {name: group[name] for name in ("source", "table", "metric", "unit")}
    return Reference(**head, **{**row, "value": float(row["value"])})
