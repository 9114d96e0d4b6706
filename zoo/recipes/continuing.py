"""Where a run stands, in every checkpoint, and how it is taken up exactly there.

Lightning's own counters of epochs go wrong when a run is stopped twice at ends of epochs, and a loader alone cannot
know that its images are no longer those of the checkpoint. So a checkpoint carries the place of the run in its data
(epoch, batches, whether the validation that belongs there is still to be done) and what decides the order of the data;
when it is loaded, Lightning's counters are written anew from the place, and another order is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from zoo.data.loading import BatchLoader
from zoo.errors import UserError

RUN = "zoo_run"
"""Key in a checkpoint."""


@dataclass(frozen=True)
class Place:
    """A point between two steps of the optimiser.

    Attributes:
        epoch: epoch in progress, from 0.
        batches: of it that are done in this process.
        total: batches done since the beginning in this process.
        last: the epoch is done.
        validation_due: a validation belongs here that has not been run.
    """

    epoch: int = 0
    batches: int = 0
    total: int = 0
    last: bool = False
    validation_due: bool = False


class Continuation(pl.Callback):
    """Writes place and order into checkpoints, and takes a run up at the place of the one it continues."""

    def __init__(self) -> None:
        self.place = Place()
        self.validation: dict[str, float] = {}
        self._loaded: Place | None = None

    # -- while training -----------------------------------------------------------------------------------------------

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Note the place, if this batch ended a step (gradients half accumulated are not in a checkpoint)."""
        fit: Any = trainer.fit_loop
        loop = fit.epoch_loop
        if loop._should_accumulate():
            return
        due = loop._should_check_val_fx(fit._data_fetcher)
        epoch, done = fit.epoch_progress.current.processed, loop.batch_progress
        last = loop._num_ready_batches_reached()
        self.place = Place(epoch, done.current.ready, done.total.ready, last, bool(due))

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The validation of this place is done; keep what it found."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.place = Place(**(asdict(self.place) | {"validation_due": False}))
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.validation = {**found, "step": float(trainer.global_step)}

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add place, order and the last validation."""
        loader = trainer.train_dataloader
        order = order_of(loader, trainer) if isinstance(loader, BatchLoader) else {}
        checkpoint[RUN] = {"place": asdict(self.place), "order": order, "validation": self.validation}

    # -- taking a run up ----------------------------------------------------------------------------------------------

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the order of the data, and write Lightning's counters from the place."""
        loops = checkpoint.get("loops", {}).get("fit_loop")
        data = getattr(trainer, "datamodule", None)
        loader = data.train_dataloader() if data is not None else None
        if not isinstance(loader, BatchLoader) or loops is None:
            return
        run = checkpoint.get(RUN) or {"place": _place_of(loops), "order": {}, "validation": {}}
        here = order_of(loader, trainer)
        refuse_other_order(run["order"], here)
        place = Place(**run["place"])
        ratio = run["order"].get("batch", here["batch"]) / here["batch"]
        total, batches = place.total * ratio, place.batches * ratio
        if not (total.is_integer() and batches.is_integer()):
            raise UserError("the checkpoint stands between two batches of this run; continue with the old batch size")
        self.place = Place(place.epoch, int(batches), int(total), place.last, place.validation_due)
        self.validation = dict(run["validation"])
        self._loaded = self.place
        _rewrite(loops, self.place, checkpoint["global_step"], loader)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new epoch as one that nothing came before, and run the validation that was left out."""
        place, self._loaded = self._loaded, None
        if place is None:
            return
        loop = trainer.fit_loop.epoch_loop
        if place.last:
            loop.restarting = False
        if place.validation_due and trainer.enable_validation:
            stepped, loop._batches_that_stepped = loop._batches_that_stepped, trainer.global_step - 1
            loop.val_loop.restarting = False
            trainer.validating = True
            loop.val_loop.run()
            trainer.training = True
            loop._batches_that_stepped = stepped
            loop.val_loop.restarting = loop.restarting


def order_of(loader: BatchLoader[Any], trainer: pl.Trainer) -> dict[str, Any]:
    """What decides which images a step sees, as plain values."""
    plan: Any = loader.plan
    skipped = {"rank", "world_size", "batch_size", "_cache", "window"}
    values = {item.name: getattr(plan, item.name) for item in fields(plan) if item.name not in skipped}
    batch = plan.batch_size * plan.world_size
    return {
        **values,
        "crop": getattr(plan.window, "crop", None),
        "data": loader.reader.digest,
        "images of a step": batch * trainer.accumulate_grad_batches,
        "images of an epoch": batch * batches_of_epoch(loader, trainer.limit_train_batches),
        "batch": batch,
    }


def refuse_other_order(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise if continuing would read other images than the run that is continued.

    Raises:
        UserError: naming the first difference.
    """
    for name, value in old.items():
        if name == "batch" or name not in new or value == new[name]:
            continue
        what = "the images themselves are others" if name == "data" else f"{name} was {value} and is {new[name]}"
        raise UserError(
            f"continuing would change the order of the data: {what}; continue with the old value, or start a new run "
            "from these weights (--weights CKPT --run_dir OTHER)"
        )


def _place_of(loops: Mapping[str, Any]) -> dict[str, Any]:
    """The place in a checkpoint that was written before checkpoints carried one: the loader's position is right."""
    states = loops.get("state_dict", {}).get("combined_loader") or [{"epoch": 0, "batches_done": 0}]
    progress = loops["epoch_loop.batch_progress"]
    place = Place(states[0]["epoch"], states[0]["batches_done"], progress["total"]["ready"], progress["is_last_batch"])
    return asdict(place)


def _rewrite(loops: dict[str, Any], place: Place, steps: int, loader: BatchLoader[Any]) -> None:
    """Lightning's counters as they are after an uninterrupted training to this place.

    Inside an epoch: as in the last hook of a batch, from where Lightning goes on exactly. At its end: as if the epoch
    had been completed in every respect.
    """
    epochs = place.epoch + 1 if place.last else place.epoch
    begun = place.epoch + 1
    counted = {"ready": begun, "started": begun, "processed": epochs, "completed": epochs}
    loops["epoch_progress"] = {"total": dict(counted), "current": dict(counted)}
    done, inside = place.total, 0 if place.last else place.batches
    completed = 0 if place.last else 1
    total = {"ready": done, "started": done, "processed": done, "completed": done - completed}
    current = {"ready": inside, "started": inside, "processed": inside, "completed": max(inside - completed, 0)}
    loops["epoch_loop.batch_progress"] = {"total": total, "current": current, "is_last_batch": False}
    loops["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - completed}
    position = loader.state_dict() | {"epoch": epochs, "batches_done": inside}
    loops.setdefault("state_dict", {})["combined_loader"] = [position]


def batches_of_epoch(loader: BatchLoader[Any], limit: float | int) -> int:
    """Batches of one epoch under `trainer.limit_train_batches`."""
    return min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
