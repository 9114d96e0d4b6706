"""Speed of a model on this machine, beside what the machine's matrix product could do."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.benchmarks.measures.counting import configured_networks, is_configuration
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError

PEAK_SIDE = 2048
Layout = Literal["contiguous", "channels_last"]
Work = Literal["evaluation", "training"]


@dataclass(frozen=True)
class Timing:
    """Fastest and median seconds of one batch, by the clock, and the fastest by CPU time of all threads."""

    fastest: float
    median: float
    cpu: float


def measure(
    checkpoint: str,
    batch_size: int = 4,
    threads: int = 2,
    layouts: list[Layout] = ["contiguous", "channels_last"],  # noqa: B006 (shown in the help, never changed)
    work: list[Work] = ["evaluation", "training"],  # noqa: B006
    repeats: int = 3,
    compile: bool = False,
) -> Iterator[Measurement]:
    """Images/s of evaluation and of whole training steps, achieved FLOP/s, and their share of the measured peak.

    Args:
        checkpoint: configuration file (.yaml), checkpoint file, or name of a shipped checkpoint.
        batch_size: images at once.
        threads: of one process. Every configuration is measured with OMP_WAIT_POLICY as the environment has it.
        layouts: memory layouts of weights and activations.
        work: evaluation prices a batch; training is objective, backward pass, clipping, AdamW and weight averaging.
        repeats: how often everything is timed; the ways take turns, so that a busy moment hits all of them alike.
        compile: also time `torch.compile`, after its warm-up.
    """
    if batch_size < 1 or threads < 1 or repeats < 1:
        raise UserError(f"--batch_size {batch_size} --threads {threads} --repeats {repeats}: expected at least 1")
    name, spec = _spec_of(checkpoint)
    with _threads(threads):
        ways = {
            (layout, compiled): _Way(spec, layout, compiled, batch_size)
            for layout in layouts
            for compiled in ([False, True] if compile else [False])
        }
        peaks: list[float] = []
        timings: dict[tuple[tuple[Layout, bool], Work], list[Timing]] = {(w, kind): [] for w in ways for kind in work}
        for _ in range(repeats):
            peaks.append(matmul_peak())
            for (way, kind), seconds in timings.items():
                seconds.append(_timed(getattr(ways[way], kind)))
    flops = _flops(spec)
    shared = {"batch_size": batch_size, "threads": threads, "repeats": repeats, **_size(spec)}
    for ((layout, compiled), kind), found in timings.items():
        yield Measurement(
            question="speed",
            subject=name,
            settings={"work": kind, "layout": layout, "compiled": compiled, **shared},
            values=_values(_fastest(found), flops[kind], batch_size, peaks),
            **stamp(),
        )


def _values(timing: Timing, flops: int | None, batch_size: int, peaks: list[float]) -> dict[str, float]:
    """What a line holds; without FLOPs where they cannot be counted."""
    values = {"images/s": batch_size / timing.fastest, "s/batch": timing.fastest, "median s/batch": timing.median}
    values |= {"CPU s/batch": timing.cpu, "peak FLOP/s": max(peaks), "slowest peak FLOP/s": min(peaks)}
    values["load"] = os.getloadavg()[0]
    if flops is not None:
        values |= {"FLOP/image": flops, "FLOP/s": flops * batch_size / timing.fastest}
    return values


class _Way:
    """One network in one layout, ready to be timed."""

    def __init__(self, spec: dict[str, Any], layout: str, compiled: bool, batch_size: int) -> None:
        from zoo.checkpoints import build as build_network

        torch.manual_seed(0)
        network: Any = build_network(spec)
        self.network: Any = network
        if layout == "channels_last":
            network.to(memory_format=torch.channels_last)
        self.x = torch.randint(256, (batch_size, *network.image_shape), dtype=torch.uint8)
        self.label = torch.full((batch_size,), -1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-6, fused=True)
        self.average = [parameter.detach().clone() for parameter in self.network.parameters()]
        self.objective: Any = torch.compile(network.objective) if compiled else network.objective
        self.terms: Any = torch.compile(network.terms) if compiled else network.terms
        if compiled:
            self.evaluation()
            self.training()

    def evaluation(self) -> Tensor:
        self.network.eval()
        with torch.inference_mode():
            result: Tensor = self.terms(self.x, self.label).bits_per_dim()
            return result

    def training(self) -> Tensor:
        self.network.train()
        loss = self.objective(self.x, self.label, 0).loss
        loss.backward()
        weights = list(self.network.parameters())
        nn.utils.clip_grad_norm_(weights, 200.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        torch._foreach_lerp_(self.average, [weight.detach() for weight in weights], 1e-3)
        result: Tensor = loss.detach()
        return result


def matmul_peak() -> float:
    """FLOP/s of one float32 matrix product; the fastest of three."""
    a, b = torch.randn(PEAK_SIDE, PEAK_SIDE), torch.randn(PEAK_SIDE, PEAK_SIDE)
    return 2 * PEAK_SIDE**3 / min(_timed(lambda: a @ b).fastest for _ in range(3))


def _timed(function: Callable[[], Any]) -> Timing:
    started, used = time.perf_counter(), time.process_time()
    function()
    seconds = time.perf_counter() - started
    return Timing(seconds, seconds, time.process_time() - used)


def _fastest(timings: Sequence[Timing]) -> Timing:
    clock = [timing.fastest for timing in timings]
    return Timing(min(clock), statistics.median(clock), min(timing.cpu for timing in timings))


def _spec_of(model: str) -> tuple[str, dict[str, Any]]:
    """Name and spec of a configuration or checkpoint."""
    from zoo.checkpoints import read

    if not is_configuration(model):
        return Path(model).stem, read(model).spec
    specs = configured_networks(model)
    if len(specs) != 1:
        raise UserError(f"{model}: describes {len(specs)} networks, expected one; give a stage's checkpoint")
    return Path(model).stem, specs[0][1]


def _flops(spec: dict[str, Any]) -> dict[str, int | None]:
    """FLOPs for one image of each kind of work, counted on the meta device."""
    from zoo.benchmarks.measures.counting import count_network

    count = count_network(spec)
    both = None if count.forward is None or count.backward is None else count.forward + count.backward
    return {"evaluation": count.forward, "training": both}


def _size(spec: dict[str, Any]) -> dict[str, str | int]:
    """Class, parameters and image shape of a network."""
    from zoo.checkpoints import build as build_network

    with torch.device("meta"):
        network: Any = build_network(spec)
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"model": type(network).__name__, "parameters": count, "shape": "x".join(map(str, network.image_shape))}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
