"""The rules that every training of the zoo follows: noise, clipping, skipping and its limit, averages, what is logged.

Nothing here waits for the device: whether an update is skipped is decided there, and its optimiser, the averaged
weights and the counters are given the same flag. The host looks at the counters when numbers are logged.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

from zoo.errors import UserError
from zoo.likelihood.model import LikelihoodModel
from zoo.seeds import derive_seed
from zoo.torchfiles import NOTES
from zoo.training.averaging import CURRENT, AveragedWeights
from zoo.training.batches import StatesBatch, in_words, spread
from zoo.training.optimisers import use_fused
from zoo.training.progress import Throughput, log_interval
from zoo.training.recomputation import recompute_blocks

Batch = tuple[Tensor, Tensor]
STATE = "zoo_training"
"""Key in a checkpoint of what belongs to no parameter."""
SHARDED = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


@dataclass(frozen=True)
class Limits:
    """What is done about large gradients; norms are taken before clipping.

    Attributes:
        clip_norm: larger gradients are scaled down to this norm; None: no clipping.
        skip_norm: an update whose gradient norm reaches this is skipped; None: only those that are not finite.
        skip_start: step from which `skip_norm` applies.
        max_consecutive_skips: training stops after this many skipped updates in a row.
    """

    clip_norm: float | None = None
    skip_norm: float | None = None
    skip_start: int = 0
    max_consecutive_skips: int = 100

    def __post_init__(self) -> None:
        for name in ("clip_norm", "skip_norm"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "above 0, or null")
        require(self.max_consecutive_skips > 0, "max_consecutive_skips", self.max_consecutive_skips, "at least 1")


def require(holds: bool, name: str, value: Any, expected: str) -> None:
    """Refuse an argument of the training module.

    Raises:
        UserError: it does not hold.
    """
    if not holds:
        raise UserError(f"model.{name}={value}: expected {expected}")


class TrainingRules(pl.LightningModule):
    """What `LitLikelihood` and `LitAutoencoder` share.

    Args:
        network: what is trained, averaged and exported.
        limits: clipping and skipping.
        ema_decay: decay of the averaged weights, which are the ones validated and saved; 0 switches averaging off.
        recompute: drop activations inside the network's blocks until the backward pass.
        tf32: let CUDA devices round the factors of float32 products to 10 bits while training.
    """

    update_skipped: Tensor
    gradient_norm: Tensor
    _skipped_total: Tensor
    _consecutive_skips: Tensor

    def __init__(
        self,
        network: nn.Module,
        limits: Limits,
        ema_decay: float = 0.0,
        recompute: bool = False,
        tf32: bool = True,
    ) -> None:
        super().__init__()
        require(0 <= ema_decay < 1, "ema_decay", ema_decay, "at least 0 and below 1")
        self.network = network
        self.limits, self.ema_decay, self.recompute, self.tf32 = limits, ema_decay, recompute, tf32
        self.noise_seed = 0
        self.accumulation = 1
        self.notes: dict[str, Any] = {}  # of the run and its data, for whoever reads the checkpoint
        self._kept: list[tuple[nn.Module, str, Tensor]] = []
        counters = {"update_skipped": torch.tensor(0.0), "gradient_norm": torch.tensor(0.0)}
        counters |= {"_skipped_total": torch.tensor(0), "_consecutive_skips": torch.tensor(0)}
        for name, value in counters.items():
            self.register_buffer(name, value, persistent=False)

    def keep_arguments(self) -> None:
        """Remember the caller's arguments for the checkpoint, as plain types.

        Under LightningCLI the network arrives as its class path and arguments, which make the checkpoint
        self-describing. In Python it is an object, which a checkpoint must not carry.
        """
        frame = inspect.currentframe()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attribute 'network' is an instance of")
            self.save_hyperparameters(frame=None if frame is None else frame.f_back)
        if isinstance(self.hparams.get("network"), nn.Module):
            for arguments in (self.hparams, vars(self)["_hparams_initial"]):
                arguments.pop("network")

    @property
    def hparams(self) -> Any:
        """The arguments, by name."""
        return super().hparams

    @property
    def skipped_total(self) -> int:
        """Updates skipped since training began; asks the device."""
        return int(self._skipped_total)

    @property
    def consecutive_skips(self) -> int:
        """Updates skipped in a row; asks the device."""
        return int(self._consecutive_skips)

    # -- set-up -------------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Take the seed of the run, and refuse what cannot be right."""
        self.noise_seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        if stage != "fit":
            return
        name = type(self.trainer.strategy).__name__
        if name in SHARDED:
            raise UserError(
                f"trainer.strategy: {name} cuts parameters up, which skipping and averaging do not support; use ddp, "
                "with --model.recompute true if memory is short"
            )
        if str(self.trainer.precision).startswith("16"):
            raise UserError(f"trainer.precision={self.trainer.precision}: use bf16-mixed or 32-true")
        if self.trainer.strategy.root_device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        self._spread_batch()
        if self.recompute and isinstance(self.network, LikelihoodModel):
            recompute_blocks(self.network)

    def _spread_batch(self) -> None:
        """Choose batch and accumulation so that a step has the images that the data state."""
        data, trainer = getattr(self.trainer, "datamodule", None), self.trainer
        if not isinstance(data, StatesBatch):
            return
        stated, accumulation = data.global_batch_size, trainer.accumulate_grad_batches
        if stated is not None and accumulation == 1:
            data.batch_size, accumulation = spread(stated, data.batch_size, trainer.world_size)
            if self.automatic_optimization:
                trainer.accumulate_grad_batches = accumulation
        self.accumulation = accumulation
        if trainer.is_global_zero:
            print(in_words(data.batch_size, trainer.world_size, accumulation, stated))

    def common_callbacks(self, grids: pl.Callback | None) -> list[pl.Callback]:
        """Throughput, pictures, averages; pictures come first, to be drawn from the averages."""
        averages = [AveragedWeights(self.ema_decay)] if self.ema_decay > 0 else []
        return [Throughput(), *([grids] if grids is not None else []), *averages]

    def seed_noise(self, stream: str, index: int) -> None:
        """Give this batch its own random numbers, a function of seed, stream, batch number and process alone.

        A run that is killed and resumed draws what it would have drawn; validating more often changes nothing.
        """
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self._trainer is not None else (1, 0)
        torch.manual_seed(derive_seed(self.noise_seed, stream, index * world + rank))

    # -- updates ------------------------------------------------------------------------------------------------------

    def begin_update(self) -> None:
        """Call before a forward pass: a skipped update will put stored buffers back to what they are now."""
        if self._kept:
            return  # gradients are being accumulated
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent_buffers_set:
                    self._kept.append((module, name, buffer.clone()))

    def guard(
        self,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None = None,
        skip_norm: float | None = None,
        also: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Clip the gradients of an optimiser, or mark its next step as one to skip.

        Gradients have been averaged over processes before, so all of them decide alike.

        Args:
            optimizer: one of `zoo.training.optimisers`.
            clip_norm: larger gradients are scaled down.
            skip_norm: gradients as large as this are skipped, beside those that are not finite.
            also: skip in any case where this is true.

        Returns:
            Norm before clipping and whether the step is skipped, both on the device.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).to(self.device)
        skip = ~torch.isfinite(norm)
        if skip_norm is not None:
            skip = skip | (norm >= skip_norm)
        if also is not None:
            skip = skip | also
        if clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        return norm, skip

    @property
    def skip_norm(self) -> float | None:
        """The norm that skips an update at this step."""
        return self.limits.skip_norm if self.trainer.global_step >= self.limits.skip_start else None

    @torch.no_grad()
    def finish_update(self, norm: Tensor, skip: Tensor) -> None:
        """Count, and put buffers back if the update is skipped: codebooks must not learn what weights do not."""
        self.gradient_norm.copy_(norm)
        self.update_skipped.copy_(skip)
        self._skipped_total += skip
        self._consecutive_skips.copy_(torch.where(skip, self._consecutive_skips + 1, 0))
        for module, name, before in self._kept:
            buffer = getattr(module, name)
            buffer.copy_(torch.where(skip, before, buffer))
        self._kept.clear()

    @override
    def on_train_start(self) -> None:
        """An optimiser's state from a checkpoint must not bring back kernels that cannot skip."""
        for optimizer in self.trainer.optimizers:
            use_fused(optimizer)

    # -- logs ---------------------------------------------------------------------------------------------------------

    def logs_this_step(self) -> bool:
        """Whether numbers of the step that is being computed are wanted."""
        every = log_interval(self.trainer)
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def log_training(self, values: Mapping[str, Tensor], shown: str) -> None:
        """Log numbers of a training step under `train/`, averaged over processes."""
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=name == shown, sync_dist=self.trainer.world_size > 1)

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Show the counters when numbers are logged, and stop when nothing has been learned for too long."""
        if self.trainer.global_step % max(log_interval(self.trainer), 1):
            return
        self.log("train/grad_norm", self.gradient_norm)
        self.log("train/skipped_total", self._skipped_total.float(), prog_bar=True)
        if self.consecutive_skips >= self.limits.max_consecutive_skips:
            raise UserError(
                f"training stopped at step {self.trainer.global_step}: {self.consecutive_skips} updates in a row were "
                f"skipped (last gradient norm {float(self.gradient_norm):.4g}, skip_norm {self.limits.skip_norm}); "
                "lower --model.lr or raise --model.skip_norm, and resume from an earlier checkpoint"
            )

    # -- checkpoints --------------------------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the notes, the counters and the seed."""
        checkpoint[NOTES] = dict(self.notes)
        checkpoint[STATE] = {
            "skipped_total": self.skipped_total,
            "consecutive_skips": self.consecutive_skips,
            "noise_seed": self.noise_seed,
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters and the seed up again; without averaging, go on from the raw weights."""
        if self._trainer is not None and self.trainer.state.fn == "fit" and self.ema_decay == 0:
            checkpoint["state_dict"] = checkpoint.get(CURRENT, checkpoint["state_dict"])
        state = checkpoint.get(STATE, {})
        self._skipped_total.fill_(state.get("skipped_total", 0))
        self._consecutive_skips.fill_(state.get("consecutive_skips", 0))
        self.noise_seed = state.get("noise_seed", self.noise_seed)
