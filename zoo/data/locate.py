"""From the name a user writes to the file it stands for."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.data.datasets import DATASETS
from zoo.errors import UserError, closest

BUNDLED = Path(__file__).with_name("photos.h5")


def data_home() -> Path:
    """Folder of prepared files: `$ZOO_DATA`, by default `~/.cache/zoo/data`."""
    return Path(os.environ.get("ZOO_DATA") or "~/.cache/zoo/data").expanduser()


def prepared_path(name: str, rule: str | None = None) -> Path:
    """Where `zoo data prepare NAME` puts its file; another split rule than the first has its own file."""
    default = next(iter(DATASETS[name].rules), None) if name in DATASETS else None
    suffix = "" if rule is None or rule == default else f"-{rule}"
    return data_home() / f"{name}{suffix}.h5"


def locate(dataset: str) -> Path:
    """Find the prepared file of a data set.

    Args:
        dataset: "photos", a name that `zoo data list` shows, with "-RULE" behind it for another split rule, the stem of
            a file in `$ZOO_DATA`, or a path to an .h5.

    Raises:
        UserError: unknown name, or known but not prepared yet.
    """
    if dataset == "photos":
        return BUNDLED
    if dataset.endswith((".h5", ".hdf5")) or os.sep in dataset:
        path = Path(dataset).expanduser()
        if not path.is_file():
            raise UserError(f"dataset '{dataset}': no such file; give a file made by `zoo data prepare`")
        return path
    path = data_home() / f"{dataset}.h5"
    if path.is_file():
        return path
    if dataset in DATASETS:
        how = f"zoo data prepare {dataset} --source PATH"
        raise UserError(f"dataset '{dataset}': not prepared, {path} is missing; run `{how}`")
    for name, spec in DATASETS.items():
        rule = dataset.removeprefix(f"{name}-")
        if dataset != rule and rule in spec.rules:
            how = f"zoo data prepare {name} --split {rule} --source PATH"
            raise UserError(f"dataset '{dataset}': not prepared, {path} is missing; run `{how}`")
    known = {"photos", *DATASETS} | {file.stem for file in data_home().glob("*.h5")}
    raise UserError(f"dataset '{dataset}': unknown name; {closest(dataset, known)}")
