"""The tables of `zoo bench --table NAME`, one module each, imported only when asked for.

A table's module has `build(records, references, **options) -> zoo.benchmarks.render.Table`: `records` is the list of
stored lines (`zoo.benchmarks.records.Record` and `Measurement`), `references` the published numbers. The command line
makes flags of the function's other, typed arguments and takes their help from its docstring.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zoo import plugins
from zoo.benchmarks.records import Line
from zoo.benchmarks.records.references import References
from zoo.benchmarks.render import Table
from zoo.errors import UserError, closest


class TableInfo(NamedTuple):
    """Where a table is built and what it shows."""

    module: str
    summary: str


ROOM = "zoo.benchmarks.tables"
TABLES: dict[str, TableInfo] = {
    name: TableInfo(f"{ROOM}.{name}", summary)
    for name, summary in {
        "nll": "published and measured bits/dim (MNIST: nats), 5 and 8 bits: the leaderboard",
        "demo": "shipped models and classical codecs on the bundled photographs",
        "tradeoffs": "bits/dim against parameters, FLOPs and sampling time; rate and distortion; 5 and 8 bits",
        "child2020": "VDVAE's results and its released weights",
        "hazami2022": "Efficient-VDVAE's tables 1 to 9, with the matrix of models and data sets",
        "kingma2021": "VDM's likelihoods, steps, noise schedules, FID",
        "razavi2019": "VQ-VAE-2's tables 1 and 2, and its FID",
        "luhman2023": "the latent VAE's tables 1 to 4",
        "disputes": "where published sources disagree",
        "compute": "parameters, FLOPs and activation bytes of every config",
        "layers": "bits/dim by number of stochastic layers",
        "lossless": "estimated and coded bits/dim beside classical codecs",
        "codes": "priors over codes: nats per code, never in a bits/dim column",
        "depth": "one model and data set at 1 to 8 bits",
        "pruning": "share of posteriors kept against the bound",
        "quality": "sample and reconstruction quality",
        "reconstruction": "SSIM, PSNR and error of reconstructions, against rate",
        "accuracy": "classifiers trained on real images, reconstructions and samples",
        "neighbours": "samples beside their nearest training images",
        "steps": "a diffusion model's bits/dim and time by number of steps",
        "rejection": "samples that a classifier keeps: quality over the rejection rate",
        "schedules": "noise schedules: variance of the estimated bound",
        "speed": "images/s, achieved FLOP/s and share of the machine's peak",
        "speed_codec": "megapixels/s of coding, by model, beside classical codecs",
        "speed_data": "images/s of the data path",
        "speed_sampling": "seconds per 1000 images drawn, by model",
        "stability": "skipped updates with and without gradient smoothing",
    }.items()
}
"""Tables by name; plugins add theirs, or offer them as entry points of `zoo.tables`."""


def known() -> dict[str, TableInfo]:
    """Every table: this package's, those of trusted modules, and those of installed packages (see `zoo.plugins`)."""
    plugins.import_all()
    offered = plugins.modules(plugins.TABLES)
    return {name: TableInfo(module, f"of {module}") for name, module in offered.items()} | TABLES


def find(name: str) -> Callable[..., Table]:
    """The build function of a table.

    Raises:
        UserError: there is no table of that name.
    """
    tables = known()
    if name not in tables:
        raise UserError(f"--table {name}: no such table; {closest(name, [*tables, 'all'])}")
    module = tables[name].module
    try:
        build: Callable[..., Table] = importlib.import_module(module).build
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"--table {name}: this installation has no {module}; reinstall the package") from error
    return build


def build_all(records: Sequence[Line], references: References) -> list[Table]:
    """Every table with its default options, in order; those that have nothing to show come last.

    Args:
        records: stored lines.
        references: published numbers.
    """
    tables = [find(name)(records, references) for name in known()]
    return sorted(tables, key=lambda table: table.empty)
