"""The tables of `zoo bench --table NAME`, one module each, imported only when asked for.

A table's module has `build(records, references, **options) -> zoo.benchmarks.render.Table`: `records` is the list of
stored lines (`zoo.benchmarks.records.Record` and `Measurement`), `references` the published numbers. The command line
makes flags of the function's other, typed arguments and takes their help from its docstring.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from zoo.benchmarks.render import Table
from zoo.errors import UserError, closest


class TableInfo(NamedTuple):
    """Where a table is built and what it shows."""

    module: str
    summary: str


TABLES: dict[str, TableInfo] = {
    "nll": TableInfo("zoo.benchmarks.tables.nll", "published and measured bits/dim (MNIST: nats), 5 and 8 bits"),
    "demo": TableInfo("zoo.benchmarks.tables.demo", "shipped models and classical codecs on the bundled photographs"),
    "compute": TableInfo("zoo.benchmarks.tables.compute", "parameters, FLOPs and activation bytes of every config"),
    "lossless": TableInfo("zoo.benchmarks.tables.lossless", "estimated and coded bits/dim beside classical codecs"),
    "codes": TableInfo("zoo.benchmarks.tables.codes", "priors over codes: nats per code, never in a bits/dim column"),
    "depth": TableInfo("zoo.benchmarks.tables.depth", "one model and data set at 1 to 8 bits"),
    "pruning": TableInfo("zoo.benchmarks.tables.pruning", "share of posteriors kept against the bound"),
    "quality": TableInfo("zoo.benchmarks.tables.quality", "sample and reconstruction quality"),
    "schedules": TableInfo("zoo.benchmarks.tables.schedules", "noise schedules: variance of the estimated bound"),
    "speed": TableInfo("zoo.benchmarks.tables.speed", "images/s, achieved FLOP/s and share of the machine's peak"),
    "speed_data": TableInfo("zoo.benchmarks.tables.speed_data", "images/s of the data path"),
    "speed_sampling": TableInfo("zoo.benchmarks.tables.speed_sampling", "seconds per 1000 images drawn, by model"),
    "stability": TableInfo("zoo.benchmarks.tables.stability", "skipped updates with and without gradient smoothing"),
}


def find(name: str) -> Callable[..., Table]:
    """The build function of a table.

    Raises:
        UserError: there is no table of that name.
    """
    if name not in TABLES:
        raise UserError(f"--table {name}: no such table; {closest(name, TABLES)}")
    module = TABLES[name].module
    try:
        return importlib.import_module(module).build
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"--table {name}: this installation has no {module}; reinstall the package") from error
