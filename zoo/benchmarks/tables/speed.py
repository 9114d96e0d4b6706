"""Speed of a model on the machine that measured it, beside what that machine's matrix product could do."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, about
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Column, Section, Table, number, word

NOT_COUNTED = "not counted"
COLUMNS = ("images/s", "s/batch", "median s/batch", "CPU s/batch", "GFLOP/image", "GFLOP/s", "share of peak")
HEAD = ("model", "parameters", "shape", "batch_size", "threads")


def build(records: Sequence[Line], references: References) -> Table:
    """Images/s of evaluation and of whole training steps, achieved FLOP/s, and their share of the measured peak.

    Args:
        records: stored lines; those of `zoo measure speed` are shown.
        references: not used.
    """
    groups: dict[tuple[object, ...], dict[tuple[object, ...], Measurement]] = {}
    for line in about(records, "speed"):
        s = line.settings
        group = groups.setdefault((line.subject, *(s[name] for name in HEAD)), {})
        group[s["work"], s["layout"], s["compiled"]] = line
    return Table(
        name="speed",
        expects="`zoo measure speed CKPT` measures this machine",
        title="Speed: evaluation and training, float32",
        sections=[_section(key, list(group.values())) for key, group in groups.items()],
        notes=[
            "Share of peak: of the fastest float32 matrix product of 2048x2048, measured between the other timings.",
            "images/s and GFLOP/s are of the fastest repeat; matrix products and convolutions count, a multiply "
            "and an add are two.",
            "CPU s is the time of all threads, which other programs disturb less.",
            "`zoo measure speed CKPT` measures a checkpoint or a configuration on this machine.",
        ],
    )


def _section(key: tuple[object, ...], lines: Sequence[Measurement]) -> Section:
    """All ways of one network."""
    name, model, parameters, shape, batch_size, threads = key
    rows = []
    for line in lines:
        v, s = line.values, line.settings
        flops, rate = v.get("FLOP/image"), v.get("FLOP/s")
        rows.append(
            [
                word(str(s["work"])),
                word(str(s["layout"]).replace("_", "-") + (", compiled" if s["compiled"] else "")),
                *(number(v[column], 2) for column in COLUMNS[:4]),
                number(None if flops is None else flops / 1e9, 1, NOT_COUNTED),
                number(None if rate is None else rate / 1e9, 1, NOT_COUNTED),
                number(None if rate is None else rate / v["peak FLOP/s"], 2, NOT_COUNTED),
            ]
        )
    peak, load = max(line.values["peak FLOP/s"] for line in lines), lines[-1].values["load"]
    hardware = lines[-1].hardware.get("processor", "")
    return Section(
        f"{name}: {model}, {parameters:,} parameters, images {shape}, batches of {batch_size}, {threads} thread(s)",
        [Column("work", numeric=False), Column("layout", numeric=False), *(Column(column) for column in COLUMNS)],
        rows,
        note=f"{hardware}: peak {peak / 1e9:.0f} GFLOP/s; load when measured {load:.1f} runnable processes.",
    )
