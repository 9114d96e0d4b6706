"""What `zoo compress` and `zoo decompress` share: the checkpoint, threads, progress."""

from collections.abc import Iterator
from contextlib import contextmanager

from zoo.checkpoints import Loaded
from zoo.codec.stream import Progress


def load_codec(checkpoint: str, steps: int = 0) -> Loaded:
    """A checkpoint whose model can code.

    Args:
        checkpoint: path or name of a shipped one.
        steps: sampling steps for models that have a choice, 0 keeps the model's own.

    Raises:
        UserError: if the checkpoint cannot be loaded, or its model is no codec.
    """
    from zoo.checkpoints import load
    from zoo.errors import UserError
    from zoo.likelihood import AncestralModel

    loaded = load(checkpoint)
    network = loaded.network
    if not isinstance(network, AncestralModel) or network.priced != "pixels":
        raise UserError(f"{checkpoint}: {type(network).__name__} does not price pixels, so it cannot code images")
    if network.bins != "normalised":
        raise UserError(
            f"{checkpoint}: bins '{network.bins}' may price more than all levels together; "
            "import or load it with bins 'normalised' to code"
        )
    if steps:
        if network.steps is None:
            raise UserError(f"--steps {steps}: {type(network).__name__} has no choice of steps; leave the option out")
        network.steps = steps
    return loaded


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Progress]:
    """A bar over tiles."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("tiles"), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=quiet) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
