"""Reconstructions of every model that makes some: SSIM, PSNR and error, against the rate of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.benchmarks.records import Line, Measurement, Record, about, of_kind
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Table
from zoo.benchmarks.tables.measured import section
from zoo.pictures import Curve, Plot

SIZE = (640, 400)
SETTINGS = ("dataset", "split", "resolution", "images")
DIGITS = {"mse [0,1]": 5, "psnr dB": 2, "ssim": 3}


def build(records: Sequence[Line], references: References) -> Table:
    """Distances between images and what models make of all that they keep of them.

    Args:
        records: stored lines; those of `zoo measure reconstruction` are shown, rates are those of priced checkpoints.
        references: not used.
    """
    lines = about(records, "reconstruction")
    rates = {record.weights: record for record in of_kind(records, Record) if record.priced == "pixels"}
    return Table(
        name="reconstruction",
        title="Reconstructions: distance to the originals",
        intro=[
            "Everything a model keeps of an image, posteriors or codes, is decoded again. The rate is what these "
            "latents cost, so a model far to the left keeps little."
        ],
        sections=section("Measured", lines, SETTINGS, DIGITS, plots=_plots(lines, rates)),
        expects="`zoo measure reconstruction CKPT` measures one",
    )


def _plots(lines: Sequence[Measurement], rates: dict[str, Record]) -> list[Plot]:
    """SSIM and PSNR against rate, a point for each checkpoint whose price is known."""
    plots = []
    for name in ("ssim", "psnr dB"):
        curves = []
        for line in {line.subject: line for line in lines}.values():
            record = rates.get(str(line.settings.get("weights")))
            if record is not None and name in line.values:
                point = (record.rate, line.values[name])
                note = f"{point[1]:.3f} at {point[0]:.3f} bits/dim"
                curves.append(Curve(line.subject, [point], line=False, notes=[note]))
        if curves:
            plots.append(Plot(curves, f"{name} against rate", "rate, bits/dim", name, size=SIZE))
    return plots
