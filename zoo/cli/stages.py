"""Training in several stages with one command: each stage is a normal fit, a function call, or an assembly.

A configuration with a top-level list `stages:` is run in order, each stage in its own folder below the run folder:

* a *fit* has the keys of any configuration (`model`, `data`, `trainer`, ...) and may start from `weights`,
* a *call* names a function of the zoo and its `arguments`; its result is the path it returns,
* an *assembly* has a `network` and the `weights` of its parts, and writes one self-describing checkpoint.

Anywhere in a stage, the text `stage:NAME` stands for the result of an earlier stage, and `spec:NAME` for the
description of its network (`spec:NAME.init_args.head` for a part of it). `weights` maps a submodule to `stage:NAME`, or
to `stage:NAME/part` for a submodule of that stage's network. A stage that is finished is not run again; an interrupted
fit continues from its last checkpoint. `--given NAME=CHECKPOINT` takes a checkpoint in place of a stage.
"""

import hashlib
import importlib
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from torch import nn
from typing_extensions import override

from zoo.checkpoints import store
from zoo.errors import UserError, closest
from zoo.files import atomic_path, sha256_file

Stage = dict[str, Any]
DONE = "done.json"
RESULT = "last.safetensors"
_REFERENCE = re.compile(r"(stage|spec):([\w-]+)(.*)")


def run_stages(path: Path | str, argv: list[str]) -> int:
    """Run all stages of a configuration, or one.

    Args:
        path: the configuration.
        argv: `--stage NAME` runs one stage alone; `--given NAME=CHECKPOINT` takes a checkpoint in place of a stage;
            `--run_dir DIR` chooses the folder (default: runs/<name of the file>); everything else is handed to every
            fit.

    Returns:
        0.

    Raises:
        UserError: for a malformed configuration, an unknown stage, or a finished stage whose configuration changed.
    """
    from zoo.cli.lightning import option, read_config, without_option

    if any(word in argv for word in ("--help", "-h")):
        options = "[--stage NAME] [--given NAME=CHECKPOINT] [--run_dir DIR] [OPTIONS OF EVERY FIT]"
        print(f"usage: zoo fit --config {path} {options}\n\n{__doc__}")
        return 0
    stages = _checked(read_config(Path(path))["stages"], path)
    root = Path(option(argv, "--run_dir") or Path("runs") / Path(path).stem)
    wanted = option(argv, "--stage")
    names = [stage["name"] for stage in stages]
    given = _given(argv, names, path)
    for name in ("--run_dir", "--stage", "--ckpt_path", "--given"):
        argv = without_option(argv, name)
    if wanted is not None and wanted not in names:
        raise UserError(f"--stage {wanted}: no such stage in {path}; {closest(wanted, names)}")
    run = Run(root, stages, argv, given)
    for number, stage in enumerate(stages, 1):
        if wanted in (None, stage["name"]):
            print(f"stage {number}/{len(stages)}: {stage['name']}")
            run.carry_out(stage)
    last = run.result(names[-1]) if run.finished(stages[-1]) else None
    if last is not None and last.suffix == ".safetensors" and _is_first_process():
        with atomic_path(root / RESULT) as temporary:
            shutil.copyfile(last, temporary)
        print(f"{root / RESULT}: the finished model")
    return 0


def _given(argv: list[str], names: list[str], path: Path | str) -> dict[str, Path]:
    """Checkpoints that stand for stages: `--given NAME=CHECKPOINT`, as often as wanted."""
    joined = [word.partition("=")[2] for word in argv if word.startswith("--given=")]
    values = [after for word, after in itertools.pairwise(argv) if word == "--given"]
    given = {}
    for value in [*joined, *values]:
        name, _, checkpoint = value.partition("=")
        if name not in names or not checkpoint:
            raise UserError(f"--given {value}: expected NAME=CHECKPOINT with a stage of {path}; {closest(name, names)}")
        given[name] = store.resolve(checkpoint)
    return given


def _checked(stages: Any, path: Path | str) -> list[Stage]:
    """The list of stages; every one has a name of its own and is of one kind."""
    for position, stage in enumerate(stages, 1):
        if not isinstance(stage, dict) or not isinstance(stage.get("name"), str):
            raise UserError(f"{path}: stage {position} has no name; give each stage `name: ...`")
        kinds = [key for key in ("model", "call", "network") if key in stage]
        if len(kinds) != 1:
            raise UserError(
                f"{path}: stage {stage['name']!r} needs one of model (a fit), call or network (an assembly)"
            )
    names = [stage["name"] for stage in stages]
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path}: stages need different names, got {names}")
    return stages


class Run:
    """The stages of one run folder.

    Args:
        root: the folder.
        stages: all stages, in order.
        argv: options handed to every fit.
        given: stages that are not run, and the checkpoint that each one's result is instead.
    """

    def __init__(self, root: Path, stages: list[Stage], argv: list[str], given: dict[str, Path] | None = None) -> None:
        self.root, self.argv, self.given = root, argv, given or {}
        self.stages = {stage["name"]: stage for stage in stages}

    # -- what is there ------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """Where a stage works."""
        return self.root / name

    def fingerprint(self, stage: Stage) -> str:
        """Digest of a stage's configuration and of everything it refers to."""
        if stage["name"] in self.given:
            return sha256_file(self.given[stage["name"]])
        names = sorted(set(_references(stage)))
        inputs = [self.fingerprint(self._earlier(name, stage)) for name in names]
        options = self.argv if "model" in stage else []
        text = json.dumps([stage, inputs, options], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _earlier(self, name: str, stage: Stage) -> Stage:
        names = list(self.stages)
        earlier = names[: names.index(stage["name"])]
        if name not in earlier:
            raise UserError(f"stage {stage['name']!r} refers to {name!r}, which does not come before it: {earlier}")
        return self.stages[name]

    def finished(self, stage: Stage) -> bool:
        """Whether a stage has been run to its end with this configuration.

        Raises:
            UserError: if it was run with another one.
        """
        if stage["name"] in self.given:
            return True
        path = self.folder(stage["name"]) / DONE
        if not path.is_file():
            return False
        done = json.loads(path.read_text())
        if done["fingerprint"] != self.fingerprint(stage):
            raise UserError(
                f"{path.parent}: finished with another configuration of this stage or of one before it; remove the "
                "folder to run it again, or choose another --run_dir"
            )
        return Path(done["result"]).exists()

    def result(self, name: str) -> Path:
        """What a finished stage made.

        Raises:
            UserError: if it is not finished.
        """
        if name in self.given:
            return self.given[name]
        if not self.finished(self.stages[name]):
            raise UserError(f"stage {name!r} has not been run in {self.root}; run it first (--stage {name})")
        return Path(json.loads((self.folder(name) / DONE).read_text())["result"])

    # -- running ------------------------------------------------------------------------------------------------------

    def carry_out(self, stage: Stage) -> None:
        """Run a stage unless it is finished. Processes other than the first wait for what only the first one does."""
        name = stage["name"]
        if self.finished(stage):
            print(f"  done already: {self.result(name)}")
            return
        self.folder(name).mkdir(parents=True, exist_ok=True)
        resolved = self.resolve({key: value for key, value in stage.items() if key != "weights"}, stage)
        weights = {part: self._source(text, stage) for part, text in stage.get("weights", {}).items()}
        if "model" in stage:
            result = self._fit(name, resolved, weights)
        elif _is_first_process():
            result = self._call(resolved) if "call" in stage else self._assemble(name, resolved, weights)
        if _is_first_process():
            with atomic_path(self.folder(name) / DONE) as temporary:
                temporary.write_text(json.dumps({"fingerprint": self.fingerprint(stage), "result": str(result)}))
        while not self.finished(stage):
            time.sleep(1)

    def resolve(self, node: Any, stage: Stage) -> Any:
        """A stage with its references replaced."""
        if isinstance(node, dict):
            return {key: self.resolve(value, stage) for key, value in node.items()}
        if isinstance(node, list):
            return [self.resolve(value, stage) for value in node]
        found = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
        if found is None:
            return node
        kind, name, rest = found.groups()
        self._earlier(name, stage)
        if kind == "stage":
            return str(self.result(name))
        spec: Any = store.read(self.result(name)).spec
        for key in rest.split(".")[1:]:
            if not isinstance(spec, dict) or key not in spec:
                raise UserError(f"stage {stage['name']!r}: {node} names nothing in the network of stage {name!r}")
            spec = spec[key]
        return spec

    def _source(self, text: str, stage: Stage) -> str:
        """`path` or `path::part` of a `weights` entry."""
        reference, _, part = text.partition("/") if text.startswith("stage:") else (text, "", "")
        return f"{self.resolve(reference, stage)}::{part}"

    def _fit(self, name: str, resolved: Stage, weights: dict[str, str]) -> Path:
        from zoo.cli.fit import LAST, train

        folder = self.folder(name)
        config = {key: value for key, value in resolved.items() if key != "name"}
        if weights:
            start = {"class_path": "zoo.cli.stages.StartFrom", "init_args": {"weights": weights}}
            trainer = config.setdefault("trainer", {})
            trainer["callbacks"] = [*(trainer.get("callbacks") or []), start]
        file = folder / "stage.yaml"
        if _is_first_process():
            with atomic_path(file) as temporary:
                temporary.write_text(yaml.safe_dump(config, sort_keys=False))
        resume = ["--ckpt_path", "last"] if (folder / LAST).is_file() else []
        train(["--config", str(file), *self.argv, "--run_dir", str(folder), *resume], [file])
        return folder / RESULT

    def _call(self, resolved: Stage) -> Path:
        module, _, function = resolved["call"].rpartition(".")
        if not module.startswith("zoo."):
            raise UserError(f"stage {resolved['name']!r}: call {resolved['call']!r}, expected a function of the zoo")
        try:
            called = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise UserError(f"stage {resolved['name']!r}: no function {resolved['call']!r}") from error
        return Path(called(**resolved.get("arguments", {})))

    def _assemble(self, name: str, resolved: Stage, weights: dict[str, str]) -> Path:
        network = store.build(resolved["network"])
        paths = {part: source.partition("::")[0] for part, source in weights.items()}
        notes = [store.read(path).meta for path in paths.values()]
        data = [note["data"] for note in notes if note.get("data", {}).get("dataset")]
        meta: dict[str, Any] = {"assembled_from": paths, "data": data[0] if data else {}}
        meta["augmented"] = any(note.get("augmented") for note in notes)
        load_parts(network, weights)
        return store.save(self.folder(name) / RESULT, resolved["network"], network, meta)


def _references(node: Any) -> list[str]:
    """Names of the stages that a stage refers to."""
    if isinstance(node, dict):
        return [name for value in node.values() for name in _references(value)]
    if isinstance(node, list):
        return [name for value in node for name in _references(value)]
    found = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
    return [found.group(2)] if found else []


def _is_first_process() -> bool:
    """Whether this is the process that writes (the others were started by a distributed launcher)."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def load_parts(network: nn.Module, weights: dict[str, str]) -> None:
    """Load parts of a network from checkpoints.

    Args:
        network: the whole.
        weights: submodule of the network -> `path::part`, where part is a submodule of the stored network or empty.

    Raises:
        UserError: if a part does not exist or does not fit.
    """
    for part, source in weights.items():
        path, _, inner = source.partition("::")
        try:
            module = network.get_submodule(part)
        except AttributeError as error:
            raise UserError(f"weights: the network has no part {part!r}") from error
        stored = store.read(path).weights
        prefix = f"{inner}." if inner else ""
        chosen = {key.removeprefix(prefix): tensor for key, tensor in stored.items() if key.startswith(prefix)}
        store.fit_weights(module, chosen, f"{path} as {part or 'the network'}")


class StartFrom(pl.Callback):
    """Gives parts of the network the weights of earlier stages before training starts.

    Args:
        weights: submodule of the network -> `path::part`, see `load_parts`.
    """

    def __init__(self, weights: dict[str, str]) -> None:
        self.weights = weights

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load them; a checkpoint that is resumed from is read later and wins."""
        if stage == "fit":
            load_parts(pl_module.network, self.weights)
