"""`zoo fit`: train what a configuration describes, stage by stage if it has stages."""

from pathlib import Path
from typing import Any

from zoo.errors import UserError, closest
from zoo.recipes.folder import SAVED

RUNS = Path("runs")


def fit(
    *options: str,
    config: list[str] = [],  # noqa: B006 (a default for the reader, never changed)
    run_dir: str | None = None,
    ckpt_path: str | None = None,
    weights: list[str] = [],  # noqa: B006
    stage: str | None = None,
    given: list[str] = [],  # noqa: B006
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
    """
    from zoo.checkpoints.configurations import find_configuration
    from zoo.recipes.configuration import read_config, setting

    files = [find_configuration(name) for name in config]
    contents = [read_config(file) for file in files]
    staged = [number for number, content in enumerate(contents) if isinstance(content.get("stages"), list)]
    if len(staged) > 1:
        raise UserError(f"{files[staged[1]]}: only one configuration may have a list of stages")
    if staged:
        further = [content for number, content in enumerate(contents) if number != staged[0]]
        root = Path(run_dir) if run_dir else RUNS / files[staged[0]].stem
        _stages(contents[staged[0]], files[staged[0]], root, options, further, stage, given)
        return
    if stage is not None or given:
        raise UserError("--stage and --given: the configuration has no stages")
    from zoo.recipes.training import Plan, train

    folder = Path(run_dir) if run_dir else _folder(files, setting(contents, "run_dir"))
    train(Plan(contents, options, folder, ckpt_path or setting(contents, "ckpt_path"), _weights(weights)))


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
    options: tuple[str, ...],
    further: list[dict[str, Any]],
    only: str | None,
    given: list[str],
) -> None:
    from zoo.recipes.language import checked
    from zoo.recipes.processes import is_first_process
    from zoo.recipes.stages import Stages

    stages = checked(content["stages"], file)
    names = [stage["name"] for stage in stages]
    if only is not None and only not in names:
        raise UserError(f"--stage {only}: no such stage in {file}; {closest(only, names)}")
    result = Stages(root, stages, options, further, _given(given, names, file)).run(only)
    if result is not None and is_first_process():
        print(f"{result}: the finished model")


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
