"""`zoo fit`: train what a configuration describes, stage by stage if it has stages."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError, closest
from zoo.recipes.folder import SAVED

if TYPE_CHECKING:
    from zoo.recipes.stages import Stages

RUNS = Path("runs")


def fit(
    *options: str,
    config: list[str] = [],  # noqa: B006 (a default for the reader, never changed)
    run_dir: str | None = None,
    ckpt_path: str | None = None,
    weights: list[str] = [],  # noqa: B006
    stage: str | None = None,
    given: list[str] = [],  # noqa: B006
    dry_run: bool = False,
) -> None:
    """Train a model; all of trainer, model, network and data are options too, --print_config shows them.

    Args:
        options: words for Lightning's own parser, such as --model.lr 1e-3 or --trainer.max_steps 100; in a
            configuration with stages --stages.NAME.trainer.max_steps 100 concerns one of them.
        config: configuration, a file or the name of a published one; several are merged from left to right.
        run_dir: folder of the run; default: runs/NAME of the last configuration.
        ckpt_path: checkpoint to continue from; `last` is the one in the run folder.
        weights: CKPT starts a new run from its weights; PART=CKPT gives them to one submodule; may be repeated.
        stage: of a configuration with stages, run this one alone.
        given: NAME=CHECKPOINT takes a checkpoint in place of a stage; may be repeated.
        dry_run: run every stage at tiny size, in minutes, in a folder of its own.
    """
    from zoo.checkpoints.configurations import find_configuration
    from zoo.recipes.configuration import read_config, setting
    from zoo.recipes.training import Plan, train

    files = [find_configuration(name) for name in config]
    contents = [read_config(file) for file in files]
    staged = [number for number, content in enumerate(contents) if isinstance(content.get("stages"), list)]
    if len(staged) > 1:
        raise UserError(f"{files[staged[1]]}: only one configuration may have a list of stages")
    if not staged and (stage is not None or given):
        raise UserError("--stage and --given: the configuration has no stages")
    if dry_run:
        _dry_run(files, contents, staged, run_dir, options)
    elif staged:
        file, content = files[staged[0]], contents.pop(staged[0])
        root = Path(run_dir) if run_dir else RUNS / file.stem
        _report(_stages(content, file, root, options, contents, given).run(stage))
    else:
        folder = Path(run_dir) if run_dir else _folder(files, setting(contents, "run_dir"))
        train(Plan(contents, options, folder, ckpt_path or setting(contents, "ckpt_path"), _weights(weights)))


def _dry_run(
    files: list[Path], contents: list[dict[str, Any]], staged: list[int], run_dir: str | None, options: Sequence[str]
) -> None:
    """Everything at tiny size, in a fresh folder."""
    from zoo.recipes.dry_run import shrunk_config, told
    from zoo.recipes.language import joined, merged
    from zoo.recipes.training import Plan, train

    name = files[-1].stem if files else "model"
    folder = Path(run_dir) if run_dir else Path(tempfile.mkdtemp(prefix=f"zoo-{name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    rest = [word for word in joined(options) if not word.startswith("--data.dataset=")]
    if staged:
        file, content = files[staged[0]], contents.pop(staged[0])
        asked = _stages(content, file, folder, options, contents, [])
        small, facts = shrunk_config({"stages": [asked.stage(name) for name in asked.names]}, folder, options)
        with told(facts, folder):
            _report(_stages(small, file, folder, rest, [], []).run())
        return
    small, facts = shrunk_config(functools.reduce(merged, contents, {}), folder, options)
    with told(facts, folder):
        train(Plan([small], rest, folder / "run"))


def _folder(files: list[Path], stated: str | None) -> Path:
    """The run folder: where a saved configuration is, what the configuration states, or one of its name."""
    if not files:
        return RUNS / "unnamed"
    if files[-1].name == SAVED and stated is not None:
        return files[-1].parent
    return Path(stated or RUNS / files[-1].stem)


def _weights(words: list[str]) -> dict[str, str]:
    """Parts of the network (empty: all of it) and the checkpoints whose weights they start from."""
    from zoo.checkpoints import store

    chosen = {}
    for word in words:
        part, _, source = word.rpartition("=") if not Path(word).exists() else ("", "", word)
        path, _, inner = source.partition("::")
        chosen[part] = f"{store.resolve(path)}::{inner}"
    return chosen


def _stages(
    content: dict[str, Any],
    file: Path,
    root: Path,
    options: Sequence[str],
    further: list[dict[str, Any]],
    given: list[str],
) -> "Stages":
    """The stages of a configuration, with what is changed from outside."""
    from zoo.recipes.language import checked
    from zoo.recipes.stages import Stages

    stages = checked(content["stages"], file)
    names = [stage["name"] for stage in stages]
    return Stages(root, stages, options, further, _given(given, names, file), content.get("reproduces") or ())


def _report(result: Path | None) -> None:
    from zoo.recipes.processes import is_first_process

    if result is not None and is_first_process():
        print(f"{result}: the finished model; next: zoo test {result.parent}; zoo sample {result.parent}")


def _given(words: list[str], names: list[str], path: Path) -> dict[str, Path]:
    """Checkpoints that stand for stages."""
    from zoo.checkpoints import store

    given = {}
    for word in words:
        name, _, checkpoint = word.partition("=")
        if name not in names or not checkpoint:
            raise UserError(f"--given {word}: expected NAME=CHECKPOINT with a stage of {path}; {closest(name, names)}")
        given[name] = store.resolve(checkpoint)
    return given
