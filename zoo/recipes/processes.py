"""Which of several cooperating processes this one is, known before Lightning or torch are asked."""

import os
from collections.abc import Mapping
from typing import Any

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_PLACES = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK")


def process_number() -> int:
    """Number of this process among those started together, as far as the environment tells; 0 is the first."""
    for name in (*_RANKS, "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def processes_of(trainer: Mapping[str, Any]) -> int:
    """Processes that a configuration of the trainer asks for."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, (list, tuple)):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):
        count = _accelerators() if trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") else 1
    else:
        count = int(devices)
    return count * int(trainer.get("num_nodes") or 1)


def _accelerators() -> int:
    import torch

    return max(torch.cuda.device_count(), 1)


def is_first_process() -> bool:
    """Whether this process is the one that writes; the others were started by Lightning, torchrun, SLURM or MPI."""
    return all(os.environ.get(name, "0") == "0" for name in (*_RANKS, *_PLACES))
