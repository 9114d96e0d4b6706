"""Training in several stages with one command: each stage is a normal fit, a function call, or an assembly.

A configuration with a top-level list `stages:` (see `zoo.recipes.language`) is run in order, each stage in its own
folder below the run folder. A stage that is finished is not run again; an interrupted fit continues from its last
checkpoint. Of several processes the first one does calls and assemblies; the others wait for it, and end when it fails.
"""

import hashlib
import importlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.checkpoints import store
from zoo.checkpoints.specification import build
from zoo.errors import UserError, closest
from zoo.files import atomic_path, sha256_file
from zoo.recipes.configuration import Config
from zoo.recipes.folder import EXPORT, LAST
from zoo.recipes.language import Stage, changed, merged, options_for, part_of, references, replaced
from zoo.recipes.processes import is_first_process, process_number, processes_of
from zoo.recipes.training import Plan, train

DONE = "done.json"
FAILED = "failed.json"
PATIENCE = 0.2
"""Seconds between two looks at what the first process has written."""
NO_NUMBERS: dict[str, Any] = {
    "checkpoint_every": ...,
    "trainer": dict.fromkeys(
        (
            "accelerator",
            "devices",
            "num_nodes",
            "strategy",
            "accumulate_grad_batches",
            "logger",
            "log_every_n_steps",
            "enable_progress_bar",
            "enable_model_summary",
            "enable_checkpointing",
            "profiler",
            "detect_anomaly",
            "default_root_dir",
            "num_sanity_val_steps",
            "val_check_interval",
            "check_val_every_n_epoch",
            "limit_val_batches",
        ),
        ...,
    ),
    "data": {"num_workers": ..., "pin_memory": ..., "eval_batch_size": ...},
    "model": {"grid_every": ..., "grid_images": ...},
}
"""Keys of a fit that change nothing of what it learns; a finished stage stays finished when they change."""


@dataclass(frozen=True)
class Stages:
    """The stages of one run folder.

    Attributes:
        root: the folder.
        stages: all stages, in order, as `zoo.recipes.language.checked` returns them.
        options: words of the command line, for all fits or (`--stages.NAME. ...`) for one stage.
        further: configurations that are merged into every fit; their `stages` is a mapping from names to changes.
        given: stages that are not run, and the checkpoint that each one's result is instead.
        reproduces: rows of the published tables that the whole reproduces.
    """

    root: Path
    stages: list[Stage]
    options: Sequence[str] = ()
    further: Sequence[Config] = ()
    given: Mapping[str, Path] = field(default_factory=dict)
    reproduces: Sequence[str] = ()
    started: float = field(default_factory=time.time)

    # -- what is asked for --------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Names of all stages."""
        return [stage["name"] for stage in self.stages]

    def stage(self, name: str) -> Stage:
        """A stage with the changes from outside that are more than options of a fit.

        Raises:
            UserError: if there is none of that name.
        """
        if name not in self.names:
            raise UserError(f"no stage '{name}'; {closest(name, self.names)}")
        stage = self.stages[self.names.index(name)]
        for config in self.further:
            everywhere = {key: value for key, value in config.items() if key != "stages"} if "model" in stage else {}
            stage = merged(merged(stage, everywhere), (config.get("stages") or {}).get(name, {}))
        options = self._options(stage)
        return stage if "model" in stage else changed(stage, options)

    def _options(self, stage: Stage) -> list[str]:
        """Options that concern a stage: of those for all stages, the ones that it can take."""
        chosen = options_for(stage["name"], self.options, self.names)
        if "model" in stage:
            codes = "class_path" in (stage.get("data") or {})  # other data than images: not meant by `--data.KEY`
            return [word for word in chosen if not (codes and word.startswith("--data.") and word in self._shared)]
        images = "data" in stage.get("arguments", {})
        return [
            word.replace("--data.", "--arguments.data.", 1) if word in self._shared else word
            for word in chosen
            if word not in self._shared or (images and word.startswith("--data."))
        ]

    @property
    def _shared(self) -> list[str]:
        return options_for("", self.options, ["", *self.names])

    # -- what is there ------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """Where a stage works."""
        return self.root / name

    def fingerprint(self, name: str) -> str:
        """Digest of what a stage's result depends on: its configuration and everything it refers to."""
        if name in self.given:
            return sha256_file(self.given[name])
        stage = self.stage(name)
        if "model" in stage:
            stage = _numbers(changed(stage, self._options(stage)))
        inputs = [self.fingerprint(earlier) for earlier in sorted(set(references(stage)))]
        text = json.dumps([stage, inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def finished(self, name: str) -> bool:
        """Whether a stage has been run to its end with this configuration.

        Raises:
            UserError: if it was run with another one.
        """
        if name in self.given:
            return True
        path = self.folder(name) / DONE
        if not path.is_file():
            return False
        done = json.loads(path.read_text())
        if done["fingerprint"] != self.fingerprint(name):
            raise UserError(
                f"{path.parent}: finished with another configuration of this stage or of one before it; remove the "
                "folder to run it again, or choose another --run_dir"
            )
        result: bool = (self.root / done["result"]).exists()
        return result

    def result(self, name: str) -> Path:
        """What a finished stage made.

        Raises:
            UserError: if it is not finished.
        """
        if name in self.given:
            return self.given[name]
        if not self.finished(name):
            raise UserError(f"stage {name!r} has not been run in {self.root}; run it first (--stage {name})")
        result: Path = self.root / json.loads((self.folder(name) / DONE).read_text())["result"]
        return result

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, only: str | None = None) -> Path | None:
        """Run all stages that are not finished, or one.

        Returns:
            The finished model, if the last stage is done and made one.
        """
        names = self.names if only is None else [self.stage(only)["name"]]
        self.check_processes(names)
        for name in names:
            if is_first_process():
                print(f"stage {self.names.index(name) + 1}/{len(self.names)}: {name}", flush=True)
            self.carry_out(name)
        last = self.result(self.names[-1]) if self.finished(self.names[-1]) else None
        if last is None or last.suffix != ".safetensors":
            return None
        if is_first_process():
            with atomic_path(self.root / EXPORT) as temporary:
                shutil.copyfile(last, temporary)
        return self.root / EXPORT

    def processes(self, name: str) -> int:
        """Processes that a stage runs in: calls and assemblies in one."""
        stage = self.stage(name)
        return processes_of(changed(stage, self._options(stage)).get("trainer") or {}) if "model" in stage else 1

    def check_processes(self, names: Sequence[str]) -> None:
        """Refuse several numbers of processes in one command: they are started once.

        Raises:
            UserError: saying what each stage asks for.
        """
        asked = {name: self.processes(name) for name in names if not self.finished(name)}
        if len({count for count in asked.values() if count > 1}) > 1:
            shown = ", ".join(f"{name} {count}" for name, count in asked.items() if count > 1)
            raise UserError(
                f"stages ask for different numbers of processes ({shown}); run them one by one with --stage NAME, or "
                "give all the same with --trainer.devices and --trainer.num_nodes"
            )

    def carry_out(self, name: str) -> None:
        """Run a stage unless it is finished."""
        if self.finished(name):
            if is_first_process():
                print(f"  done already: {self.result(name)}")
            return
        folder = self.folder(name)
        stage = self.stage(name)
        resolved = self._resolved({key: value for key, value in stage.items() if key not in ("weights", "name")}, name)
        weights = {part: self._source(text, name) for part, text in stage.get("weights", {}).items()}
        if is_first_process():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILED).unlink(missing_ok=True)
        try:
            if "model" in stage and process_number() < self.processes(name):
                result = self._fit(name, resolved, weights)
            elif is_first_process():
                result = self._call(name, resolved) if "call" in stage else self._assemble(name, resolved, weights)
        except BaseException as error:
            if is_first_process():
                (folder / FAILED).write_text(json.dumps({"error": str(error) or type(error).__name__}))
            raise
        if is_first_process():
            with atomic_path(folder / DONE) as temporary:
                shown = os.path.relpath(result, self.root)
                temporary.write_text(json.dumps({"fingerprint": self.fingerprint(name), "result": shown}))
        else:
            self._wait(name)

    def _wait(self, name: str) -> None:
        """Wait for what only the first process does.

        Raises:
            UserError: if it failed or has gone.
        """
        parent, failed = os.getppid(), self.folder(name) / FAILED
        while not self.finished(name):
            if os.getppid() != parent:
                raise UserError(f"stage {name!r}: the first process has gone")
            if failed.is_file() and failed.stat().st_mtime >= self.started - 1.0:
                raise UserError(f"stage {name!r} failed in the first process: {failed.read_text()}")
            time.sleep(PATIENCE)

    def _resolved(self, node: Any, name: str) -> Any:
        """A stage with its references replaced."""

        def value(kind: str, earlier: str, rest: str) -> Any:
            path = self.result(earlier)
            return str(path) if kind == "stage" else part_of(store.read(path).spec, rest, f"{kind}:{earlier}{rest}")

        return replaced(node, value)

    def _source(self, text: str, name: str) -> str:
        """`path::part` of a `weights` entry, which is `stage:NAME`, `stage:NAME/part` or `path::part`."""
        if not text.startswith("stage:"):
            return text
        reference, _, part = text.partition("/")
        return f"{self._resolved(reference, name)}::{part}"

    def _fit(self, name: str, resolved: Config, weights: dict[str, str]) -> Path:
        folder = self.folder(name)
        resume = "last" if (folder / LAST).is_file() else None
        train(Plan([resolved], self._options(self.stage(name)), folder, resume, weights))
        return folder / EXPORT

    def _call(self, name: str, resolved: Stage) -> Path:
        module, _, function = resolved["call"].rpartition(".")
        if not module.startswith("zoo."):
            raise UserError(f"stage {name!r}: call {resolved['call']!r}, expected a function of the zoo")
        try:
            called = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise UserError(f"stage {name!r}: no function {resolved['call']!r}") from error
        return Path(called(**resolved.get("arguments", {})))

    def _assemble(self, name: str, resolved: Stage, weights: dict[str, str]) -> Path:
        from zoo.recipes.parts import load_parts

        network = build(resolved["network"])
        paths = {part: source.partition("::")[0] for part, source in weights.items()}
        notes = [store.read(path).meta for path in paths.values()]
        data = [note["data"] for note in notes if note.get("data", {}).get("dataset")]
        meta: dict[str, Any] = {"assembled_from": paths, "data": data[0] if data else {}}
        meta["run"], meta["reproduces"] = self.root.resolve().name, list(self.reproduces)
        meta["augmented"] = any(note.get("augmented") for note in notes)
        load_parts(network, weights)
        return store.save(self.folder(name) / EXPORT, resolved["network"], network, meta)


def _numbers(stage: Any, without: Any = NO_NUMBERS) -> Any:
    """A fit without what changes no numbers."""
    if not isinstance(stage, Mapping) or not isinstance(without, Mapping):
        return stage
    kept = {key: value for key, value in stage.items() if without.get(key) is not ...}
    return {key: _numbers(value, without.get(key)) for key, value in kept.items()}
