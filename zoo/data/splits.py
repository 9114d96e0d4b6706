"""Split rules of the papers as index rules: anyone with the source can rebuild the same splits.

A rule says, for each part of the source ("train", "val", "test" or "all"), which image goes to which split. Images keep
the order of the source inside a split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

SPLIT_NAMES = ("train", "val", "test")
DROP = ""


class Assignment(Protocol):
    """Sends the images of one part of a source to splits."""

    def __call__(self, count: int) -> np.ndarray:
        """Split name of each of the part's `count` images ("" = left out)."""
        ...


@dataclass(frozen=True)
class Keep:
    """The whole part becomes one split."""

    split: str

    def __call__(self, count: int) -> np.ndarray:
        """All images to one split."""
        return np.full(count, self.split, dtype="U5")


@dataclass(frozen=True)
class HoldOut:
    """Some images to `held`, the others to `rest`.

    Args:
        size: images held out (a float: that share of the part).
        held: split of the held-out images.
        rest: split of the others.
        end: from which end of the order they are taken.
        seed: order is numpy's `RandomState(seed).permutation(count)`; None = the order of the source.
    """

    size: int | float
    held: str
    rest: str
    end: Literal["first", "last"] = "last"
    seed: int | None = None

    def __call__(self, count: int) -> np.ndarray:
        """Hold out; with fewer images than `size` (a limited source) a tenth, so that small trials have every split."""
        size = round(self.size * count) if isinstance(self.size, float) else self.size
        if size >= count:
            size = max(1, count // 10)
        order = np.arange(count) if self.seed is None else np.random.RandomState(self.seed).permutation(count)
        chosen = order[:size] if self.end == "first" else order[count - size :]
        splits = np.full(count, self.rest, dtype="U5")
        splits[chosen] = self.held
        return splits


@dataclass(frozen=True)
class Divide:
    """One part divided into all three splits, in the order of a seed: first validation, then test, the rest trains.

    Args:
        val: images of the validation split.
        test: images of the test split.
        seed: order is numpy's `RandomState(seed).permutation(count)`.
    """

    val: int
    test: int
    seed: int = 0

    def __call__(self, count: int) -> np.ndarray:
        """Divide; with fewer images than asked for (a limited source) a tenth each is held out."""
        val, test = (self.val, self.test) if self.val + self.test < count else (max(1, count // 10),) * 2
        order = np.random.RandomState(self.seed).permutation(count)
        splits = np.full(count, "train", dtype="U5")
        splits[order[:val]] = "val"
        splits[order[val : val + test]] = "test"
        return splits


@dataclass(frozen=True)
class SplitRule:
    """A named way to split a source."""

    text: str  # recorded in the file
    parts: Mapping[str, Assignment] = field(default_factory=dict)
    variant: str = ""  # own variant, where the test split is another one than the data set's usual

    def assign(self, part: str, count: int) -> np.ndarray:
        """Split name of every image of a part; parts that the rule does not name keep their own name."""
        return self.parts.get(part, Keep(part))(count)


OFFICIAL = SplitRule("the source's own parts")
