"""One published cell from beginning to end: released weights, data, price under the official settings, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.benchmarks.records import Record, append, references
from zoo.benchmarks.records.references import Reference
from zoo.checkpoints import released
from zoo.checkpoints.released import Released
from zoo.checkpoints.store import pulled_path
from zoo.errors import UserError
from zoo.recipes.configuration import read_config


@dataclass(frozen=True)
class Plan:
    """What reproducing a cell takes.

    Attributes:
        entry: the released checkpoint.
        dataset: name of the prepared data, as `zoo fit` takes it.
        split: split that is priced.
        published: the numbers it stands beside.
        flops: of pricing one image, 0 if unknown.
    """

    entry: Released
    dataset: str
    split: str
    published: tuple[Reference, ...]
    flops: int

    def lines(self) -> list[str]:
        """The plan in words, before anything is done."""
        here = pulled_path(self.entry.name)
        weights = f"{here}, here already" if here.is_file() else f"fetched from {', '.join(self.entry.urls)}"
        gone = "" if self.entry.open or here.is_file() else f" ({self.entry.note})"
        found = [
            f"weights    {weights}{gone}; licence {self.entry.licence}",
            f"data       {self.dataset}, split {self.split}: {_where(self.dataset)}",
            f"price      zoo test {self.entry.name} --data.dataset {self.dataset}",
        ]
        if self.flops:
            rate = _flops_per_second()
            found.append(
                f"cost       {self.flops / 1e9:,.1f} GFLOP an image; {rate / self.flops:,.2f} images/s at this "
                f"processor's {rate / 1e9:,.0f} GFLOP/s"
            )
        found += [f"published  {number.value} {number.unit} ({number.id})" for number in self.published]
        return [*found, *([f"note       {self.entry.note}"] if self.entry.note and not gone else [])]


def plan(name: str) -> Plan:
    """What reproducing the cell of a released checkpoint takes.

    Raises:
        UserError: there is no such checkpoint, or it belongs to no published configuration.
    """
    entry = released.find(name)
    if not entry.config:
        raise UserError(
            f"{name}: a part of a model, no published likelihood belongs to it; `zoo pull {name}` fetches it"
        )
    config = read_config(entry.config)
    wanted = set(config.get("reproduces") or [])
    published = tuple(number for number in references.load().numbers if number.id in wanted and number.metric == "nll")
    data = config.get("data") or {}
    return Plan(entry, str(data["dataset"]), str(data.get("test_split", "test")), published, _flops(config))


def reproduce(
    name: str, records: Path, batch_size: int, report: Callable[[str, int, int], None], progress: Callable[[int], None]
) -> Record:
    """Carry a plan out; the record is appended to `records`/NAME.jsonl.

    Args:
        name: of the released checkpoint.
        records: folder of records.
        batch_size: images at once.
        report: progress of the download.
        progress: called with the number of images after each batch.

    Raises:
        UserError: something that is needed cannot be had; the message names it.
    """
    from zoo.benchmarks.measures.evaluator import evaluate_checkpoint
    from zoo.data.locate import locate

    wanted = plan(name)
    locate(wanted.dataset)  # missing data are found before the download
    released.pull(wanted.entry, report)
    record = evaluate_checkpoint(name, wanted.dataset, wanted.split, batch_size=batch_size, progress=progress)
    append(records / f"{name}.jsonl", record)
    return record


def _where(dataset: str) -> str:
    """The file of a data set, or how to make it."""
    from zoo.data.locate import locate

    try:
        return str(locate(dataset))
    except UserError as error:
        return str(error)


def _flops(config: dict[str, Any]) -> int:
    """Of one forward pass of the configuration's last network; 0 where it cannot be counted."""
    from zoo.benchmarks.measures.counting import count_network, networks_of

    counts = [count_network(spec, "", stage) for stage, spec in networks_of(config)]
    return (counts[-1].forward or 0) if counts else 0


def _flops_per_second() -> float:
    """What a large matrix product reaches on this processor, the best of three."""
    import torch

    side = 1024
    matrix = torch.rand(side, side)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
